"""Integrity from the message to the verdict: checked while counting, added up, judged; or unchecked."""

import asyncio
from dataclasses import replace

import pytest

from streams.conditions import encode_conditions
from streams.events.batch import encode_batch
from streams.integrity import EmulatedOutput, IntegrityCheck, IntegrityState, sample
from streams.judging.judge import MonitoredModel
from streams.judging.verdict import Verdict
from streams.pipeline import Pipeline, Topics
from streams.store.database import open_engine
from streams.store.records import create_tables
from streams.store.windows import WindowStore
from streams.topics import BATCHES, CONDITIONS, SUMMARIES
from tests.support.streams import MODEL, FakeEvent, FakeMessage, FakeTopic, conditions

PARTS = 4
EVENTS = 2000


class StandInEmulators:
    """Answers as the stand-in of the firmware does."""

    def __init__(self, firmware):
        self._firmware = firmware

    def outputs(self, _package, inputs):
        answer = self._firmware(inputs)
        return EmulatedOutput(answer.score, answer.accept)


@pytest.fixture
def judge(tmp_path, contract):
    """Return a function that passes batches of one lumisection through a worker's stages to the verdict."""
    engine = open_engine(f"sqlite:///{tmp_path}/site.db")
    create_tables(engine)

    async def run(batches, integrity):
        models = {MODEL: MonitoredModel(contract)}
        topics = Topics(FakeTopic(), FakeTopic(), FakeTopic())
        pipeline = Pipeline(models, WindowStore(engine, models=models), topics, integrity=integrity)
        announced = conditions(7, expected={"replay": len(batches)})
        messages = [
            FakeEvent(encode_batch(batch), FakeMessage(BATCHES, 0, n)) for n, batch in enumerate(batches)
        ]
        # every batch is delivered twice
        await pipeline.summarise([*messages, *messages])
        summaries = [FakeEvent(value, FakeMessage(SUMMARIES)) for _, value in topics.summaries.sent]
        await pipeline.conditions([FakeEvent(encode_conditions(announced), FakeMessage(CONDITIONS))])
        await pipeline.merge(summaries)
        ((_, verdict),) = topics.verdicts.sent
        return Verdict.model_validate_json(verdict)

    yield lambda batches, integrity=None: asyncio.run(run(batches, integrity))
    engine.dispose()


@pytest.fixture
def batches(detector):
    return [detector.batch(7, n_events=EVENTS, part=part) for part in range(PARTS)]


def _flipped(batch, every):
    score = batch.score.copy()
    score[::every] ^= 1
    return replace(batch, score=score)


def test_one_flipped_output_in_500_is_found_with_the_exact_count(judge, batches, detector):
    check = IntegrityCheck(StandInEmulators(detector.firmware), prescale=1)
    verdict = judge([_flipped(batch, 500) for batch in batches], check)
    assert (verdict.integrity.n_checked, verdict.integrity.n_mismatched) == (PARTS * EVENTS, PARTS * 4)
    assert verdict.firmware_fault
    assert verdict.reason.startswith("Firmware fault: 16 of 8,000 checked events differ from the emulator")


def test_a_sample_finds_exactly_the_flipped_outputs_that_it_holds(judge, batches, detector):
    check = IntegrityCheck(StandInEmulators(detector.firmware), prescale=10)
    chosen = [sample(batch, prescale=10, minimum=16) for batch in batches]
    verdict = judge([_flipped(batch, 20) for batch in batches], check)
    assert verdict.integrity.n_checked == PARTS * EVENTS // 10
    assert verdict.integrity.n_mismatched == sum(int((events % 20 == 0).sum()) for events in chosen)


def test_right_firmware_has_no_mismatch(judge, batches, detector):
    verdict = judge(batches, IntegrityCheck(StandInEmulators(detector.firmware), prescale=10))
    assert verdict.integrity.state is IntegrityState.AGREES
    assert (verdict.integrity.n_checked, verdict.integrity.n_mismatched) == (PARTS * EVENTS // 10, 0)
    assert not verdict.firmware_fault


def test_a_worker_without_emulators_says_that_nothing_was_checked(judge, batches):
    verdict = judge([_flipped(batch, 500) for batch in batches])
    assert verdict.integrity.state is IntegrityState.NOT_CHECKED
    assert verdict.integrity.ratio is None
    assert verdict.integrity.words == "no event was checked against the emulator"
    assert not verdict.firmware_fault
