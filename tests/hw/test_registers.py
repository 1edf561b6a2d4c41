import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.registers import (
    Command,
    Register,
    Result,
    hash_of_words,
    pack_answers,
    pack_events,
    unpack_answers,
    unpack_events,
    words_of_hash,
    words_per_event,
)


@given(n_events=st.integers(0, 5), n_inputs=st.integers(1, 60), seed=st.integers(0, 100))
def test_events_survive_packing(n_events, n_inputs, seed):
    inputs = np.random.default_rng(seed).integers(-32768, 32768, (n_events, n_inputs), dtype=np.int16)
    words = pack_events(inputs)
    assert words.shape == (n_events * words_per_event(n_inputs),)
    assert (unpack_events(words, n_inputs) == inputs).all()


def test_the_first_input_is_in_the_low_half_and_padding_is_zero():
    words = pack_events(np.array([[1, -1, 2]], dtype=np.int16))
    assert words.tolist() == [0xFFFF0001, 0x00000002]


def test_score_and_decision_share_a_word():
    words = pack_answers(np.array([0, 5, 2**31 - 1]), np.array([False, True, True]))
    assert words.tolist() == [0, 0x80000005, 0xFFFFFFFF]
    scores, accepts = unpack_answers(words)
    assert scores.tolist() == [0, 5, 2**31 - 1]
    assert accepts.tolist() == [False, True, True]


@pytest.mark.parametrize("content", [b"", b"lumiwatch"])
def test_a_hash_survives_its_registers_most_significant_word_first(content):
    digest = hashlib.sha256(content).hexdigest()
    words = words_of_hash(digest)
    assert hash_of_words(words) == digest
    assert int(words[0]) == int(digest[:8], 16)


def test_the_page_for_implementers_names_every_register_command_and_result():
    page = (Path(__file__).parents[2] / "docs" / "registers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (0x[0-9A-Fx, -]+?) \| (`.+?`) \|", page, re.MULTILINE)
    documented = {}
    for addresses, names in rows:
        first = [int(part.split("-")[0], 16) for part in addresses.split(", ")]
        documented.update(zip(re.findall(r"`(\w+)`", names), first, strict=True))
    assert documented == {register.name: int(register) for register in Register}
    assert all(f"{command.value} = {command.name}" in page for command in Command)
    assert all(re.search(rf"^\| {result.value} \| ", page, re.MULTILINE) for result in Result)
