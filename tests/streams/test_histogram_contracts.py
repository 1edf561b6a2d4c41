"""What needs events refuses a contract of histograms with one line, and does not break."""

import pytest

from streams.conversion.convert import convert
from streams.errors import ContractError, MalformedMessage
from streams.events.batch import decode_batch
from tests.support import dqm


def test_a_conversion_needs_events(hzz_path, tmp_path):
    with pytest.raises(ContractError, match="lists histograms, and a conversion needs events"):
        convert([hzz_path], dqm.contract(), tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_a_batch_for_a_contract_of_histograms_is_refused():
    with pytest.raises(MalformedMessage, match="lists histograms: send summaries"):
        decode_batch(b"anything", dqm.contract())
