"""docs/messages.md: messages made by hand from it are accepted, and its tables are those of the code."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest

from streams import conditions, dead_letter
from streams.conditions import Conditions, decode_conditions
from streams.contracts.contract import load_contract
from streams.counting import codec as summary_codec
from streams.dead_letter import DeadLetter
from streams.events import batch
from streams.events.batch import decode_batch
from streams.integrity import IntegrityResult
from streams.judging import verdict
from streams.judging.assessment import InputShift
from streams.judging.rate_chart import RateChart
from streams.judging.verdict import State, Verdict
from streams.topics import TOPICS
from tests.support.hostile import CONTRACT_PATH

PAGE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text(encoding="utf-8")


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL).group(1)


def table(text, first_column):
    """Return the rows of the table whose first column has that name, as lists of cells."""
    lines = text.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def names(rows):
    return [row[0].strip("`") for row in rows]


def test_the_page_knows_every_topic():
    assert tuple(names(table(PAGE, "topic"))) == TOPICS


@pytest.mark.parametrize(
    ("title", "model"), [("Conditions", Conditions), ("Verdict", Verdict), ("Dead letter", DeadLetter)]
)
def test_fields_are_those_of_the_code_and_required_where_it_says_so(title, model):
    rows = table(section(title), "field")
    assert names(rows) == list(model.model_fields)
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    assert {row[0].strip("`") for row in rows if row[2] == "yes"} == required


def test_parts_of_a_verdict_are_those_of_the_code():
    rows = {row[0].strip("`"): row for row in table(section("Verdict"), "field")}
    assert re.findall(r"`(\w+)`", rows["worst_inputs"][3]) == list(InputShift.model_fields)
    assert re.findall(r"`(\w+)`", rows["rate_chart"][3]) == list(RateChart.model_fields)
    assert re.findall(r"`(\w+)`", rows["integrity"][3]) == list(IntegrityResult.model_fields)
    assert re.findall(r"`(\w+)`", rows["state"][1]) == [state.value for state in State]


def test_metadata_of_a_batch_is_that_of_the_code():
    assert {f"lumiwatch.{name}" for name in names(table(section("Batch"), "key"))} == batch._KEYS


def test_the_summarys_header_is_that_of_the_code():
    assert names(table(section("Summary"), "field")) == list(summary_codec._Header.model_fields)


def test_limits_and_versions_are_those_of_the_code():
    assert f"({batch.MAX_BATCH_BYTES} bytes) and {batch.MAX_BATCH_EVENTS} events" in section("Batch")
    assert f"0 to {batch.MAX_SEQUENCE}" in section("Batch")
    assert f"at most {conditions.MAX_CONDITIONS_BYTES} bytes" in section("Conditions")
    assert f"at most {verdict.MAX_VERDICT_BYTES} bytes" in section("Verdict")
    assert f"first {dead_letter.MAX_PAYLOAD_BYTES} bytes" in section("Dead letter")
    assert f"below 2^{summary_codec.MAX_COUNT.bit_length() - 1} " in section("Summary")
    assert summary_codec.MAGIC.decode() in section("Summary")
    for title, version in (
        ("Batch", batch.VERSION),
        ("Conditions", conditions.VERSION),
        ("Summary", summary_codec.VERSION),
        ("Verdict", verdict.VERSION),
        ("Dead letter", dead_letter.VERSION),
    ):
        assert section(title).strip().startswith(f"Version {version}")


def test_a_batch_made_by_hand_from_the_page_is_accepted():
    contract = load_contract(CONTRACT_PATH)
    example = re.findall(r"^(lumiwatch\.\w+) += (.*)$", section("Batch"), re.MULTILINE)
    hashes = {"lumiwatch.contract_hash": contract.hash, "lumiwatch.package": "ab" * 32}
    schema = pa.schema(
        [("jet[0].pt", pa.int16()), ("jet[1].pt", pa.int16()), ("score", pa.int32()), ("accept", pa.bool_())],
        metadata={key: hashes.get(key, value) for key, value in example},
    )
    columns = [[16, 32], [8, 0], [1000, 0], [True, False]]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))

    found = decode_batch(sink.getvalue().to_pybytes(), contract)

    assert (found.run, found.lumisection, found.source, found.sequence) == (42, 7, "l1-scouting", 3)
    assert found.inputs.tolist() == [[16, 8], [32, 0]]
    assert found.score.tolist() == [1000, 0]
    assert found.accept.tolist() == [True, False]
    assert not found.simulated


def test_conditions_from_the_page_are_accepted():
    text = re.search(r"```json\n(.*?)```", section("Conditions"), re.DOTALL).group(1)
    found = decode_conditions(text.encode())
    assert found.expected == {"l1-scouting": 4}
    assert found.end_of_lumisection
    shortest = {"model": "small", "run": 1, "lumisection": 1, "pileup": 50}
    assert decode_conditions(json.dumps(shortest).encode()).stable_beams
