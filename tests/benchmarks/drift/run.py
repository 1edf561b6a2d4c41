"""Measures what lumiwatch finds, how soon, and how often it cries for nothing, beside other tools.

``make bench-drift ARGS="[--quick] [--write] [PART ...]"``. The parts:

- ``judge``: lumiwatch on generated lumisections, in control and with something wrong;
- ``peers``: alibi-detect and evidently, in an environment of their own, on some of the same lumisections;
- ``streams``: detectors on river's synthetic streams with a known change;
- ``turing``: the same detectors on the Turing change point data that river ships.

``--write`` puts the tables into ``docs/benchmarks.md``, each between its markers.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from streams.backtest.generator import GeneratedDetector
from streams.contracts.contract import load_contract
from streams.judging.verdict import State
from tests.benchmarks.drift import change_points, lumisections, synthetic
from tests.benchmarks.drift.cases import (
    CASES,
    EVENTS,
    IN_CONTROL_PER_1000,
    IN_CONTROL_STRETCH_PER_1000,
    OUTSIDE,
    Case,
    Wanted,
)
from tests.benchmarks.drift.judge import Judge, MakeJudge, lumiwatch
from tests.benchmarks.drift.lumisections import BEFORE_ONSET, CONTROL_STEP
from tests.benchmarks.drift.peers import ensure_environment, peers
from tests.benchmarks.drift.scoring import NOTHING, Detection, Quiet, Share, detection, quiet
from tests.benchmarks.drift.sequential import BASELINES, DETECTORS, Lumiwatch
from tests.benchmarks.run import PAGE, machine, replace_section

CONTRACT: Final = PAGE.parents[1] / "deploy" / "site" / "models" / "anomaly" / "contract.toml"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    fills, every
        Fills to learn from, and which of their lumisections: every so-manieth.
    control
        Lumisections in control.
    repetitions
        Of each case.
    peer_control, peer_repetitions
        The same for the peers, which are slow.
    sample
        Events of the peers' reference sample.
    seeds
        Of each synthetic stream.
    """

    fills: int = 8
    every: int = 8
    control: int = 10_200
    repetitions: int = 50
    peer_control: int = 200
    peer_repetitions: int = 10
    sample: int = 20_000
    seeds: int = 20


QUICK: Final = Size(
    fills=2, every=40, control=40, repetitions=2, peer_control=3, peer_repetitions=1, sample=5000, seeds=1
)


class Bench:
    """One run of the benchmark.

    Parameters
    ----------
    seed
        Of the detector, the judge's and the peers' alike.
    make_judge
        Who is measured.
    """

    def __init__(
        self,
        size: Size,
        seed: int,
        *,
        cases: Sequence[Case] = CASES,
        make_judge: MakeJudge = lumiwatch,
        peers_python: Callable[[], Path] = ensure_environment,
    ) -> None:
        self.size = size
        self.cases = list(enumerate(cases))
        self.detector = GeneratedDetector(load_contract(CONTRACT), seed)
        self._make_judge = make_judge
        self._peers_python = peers_python
        self._judge: Judge | None = None

    @property
    def judge(self) -> Judge:
        """The judge, taught when it is first asked for."""
        if self._judge is None:
            with _timed("learning"):
                learned = lumisections.learning(self.detector, self.size.fills, self.size.every)
                self._judge = self._make_judge(self.detector, learned)
        return self._judge

    def judged(self) -> str:
        """Return the table of the judge."""
        control = NOTHING
        with _timed(f"{self.size.control} lumisections in control"):
            fills = list(lumisections.control_fills(self.detector, self.size.control))
            for states in self._side_by_side(Bench.control_states, fills):
                control += quiet(states)
        rows = [_control_row(control)]
        for position, case in self.cases:
            with _timed(case.name):
                numbers = [(position, number) for number in range(self.size.repetitions)]
                states = self._side_by_side(Bench.case_states, numbers)
                asked = numbers if case.wanted is Wanted.NOT_JUDGED else []
                found = detection(states, BEFORE_ONSET, [self._outside(*one) for one in asked])
                rows.append(_case_row(case, found))
        return _table(("case", "found", "median delay, LS", "alarms, not judged", "target", "reached"), rows)

    def control_states(self, run: int, n_lumisections: int) -> list[State]:
        """Judge one fill in control."""
        one = lumisections.control_fill(self.detector, run, n_lumisections)
        return self.judge(one.summaries, one.conditions)

    def case_states(self, position: int, number: int) -> list[State]:
        """Judge one repetition of a case."""
        case = dict(self.cases)[position]
        one = lumisections.repetition(self.detector, case, position, number)
        return self.judge(one.summaries, one.conditions)

    def _outside(self, position: int, number: int) -> list[bool]:
        """Tell which lumisections of a repetition are far above all pileup that was learnt from."""
        highest = OUTSIDE * lumisections.highest_learnt(self.detector, self.size.fills, self.size.every)
        pileups = lumisections.true_pileups(self.detector, dict(self.cases)[position], position, number)
        return [one > highest for one in pileups.values()]

    def _side_by_side(
        self, judged: Callable[["Bench", int, int], list[State]], tasks: Sequence[tuple[int, int]]
    ) -> list[list[State]]:
        """Judge in as many processes as there are cores; each has what was learnt, and the order stays."""
        _ = self.judge
        # forked: the judge is no data that could be sent
        with multiprocessing.get_context("fork").Pool(os.cpu_count(), _remember, (self, judged)) as pool:
            return pool.map(_judge_one, tasks, chunksize=1)

    def compared(self) -> str:
        """Return the table of the peers, with lumiwatch's state after the same lumisections."""
        judge, size = self.judge, self.size
        names = self.detector.contract.input_names
        sample = lumisections.sample(self.detector, size.sample)
        python = self._peers_python()
        with peers(python, names, sample, python.parents[1] / "answers.jsonl") as asked:
            with _timed(f"peers, {size.peer_control} lumisections in control"):
                decisions = [
                    asked.decide(one) for one in lumisections.control_events(self.detector, size.peer_control)
                ]
            states: list[State] = []
            for one in lumisections.in_control(self.detector, size.peer_control * CONTROL_STEP):
                states += judge(one.summaries, one.conditions)
            asked_about = states[::CONTROL_STEP]
            own_share = Share(sum(state is State.ALARM for state in asked_about), len(asked_about))
            rows = [_peer_row("in control", own_share, decisions)]
            tools = list(decisions[0])
            timed = [asked.decide(one, again=True) for one in lumisections.control_events(self.detector, 3)]
            speeds = [EVENTS / min(one[tool][1] for one in timed) for tool in tools]
            for position, case in self.cases:
                with _timed(f"peers, {case.name}"):
                    own, theirs = 0, []
                    for number in range(size.peer_repetitions):
                        sequence = lumisections.repetition(self.detector, case, position, number)
                        own += judge(sequence.summaries, sequence.conditions)[-1] is State.ALARM
                        theirs.append(
                            asked.decide(lumisections.bad_events(self.detector, case, position, number))
                        )
                rows.append(_peer_row(case.name, Share(own, size.peer_repetitions), theirs))
        rows.append(("events/s of one lumisection", "", *(f"{speed:,.0f}" for speed in speeds)))
        return _table(("case", "lumiwatch in alarm", *tools), rows)

    def streams(self) -> str:
        """Return the table of the synthetic streams."""
        with _timed("synthetic streams"):
            # of zeros and ones it takes more of them to know what is usual
            detectors = {**DETECTORS, "lumiwatch": lambda: Lumiwatch(learned=200)}
            results = synthetic.results(detectors, range(self.size.seeds))
        cells = {
            (one.stream, one.detector): f"{one.share.found} of {one.share.of}; "
            f"{'none' if one.delay is None else f'{one.delay:.0f}'}; {one.false_per_1000:.2f}"
            for one in results
        }
        rows = [(stream, *(cells[stream, name] for name in DETECTORS)) for stream in synthetic.STREAMS]
        return _table(("found; median delay; false alarms per 1000", *DETECTORS), rows)

    def turing(self) -> str:
        """Return the table of the Turing change point data."""
        detectors = {**DETECTORS, **BASELINES}
        scores = change_points.scores(detectors)
        cells = {(series, name): f"{f1:.3f}; {covering:.3f}" for series, name, f1, covering in scores}
        series = dict.fromkeys(row[0] for row in scores)
        rows = [(one, *(cells[one, name] for name in detectors)) for one in series]
        return _table(("F1 within 5; covering", *detectors), rows)


_TASK: dict[str, Any] = {}


def _remember(bench: Bench, judged: Callable[[Bench, int, int], list[State]]) -> None:
    """Note, in a process of the pool, who judges what."""
    _TASK.update(bench=bench, judged=judged)


def _judge_one(task: tuple[int, int]) -> list[State]:
    states: list[State] = _TASK["judged"](_TASK["bench"], *task)
    return states


PARTS: Final = {
    "judge": ("drift", Bench.judged),
    "peers": ("drift-peers", Bench.compared),
    "streams": ("drift-streams", Bench.streams),
    "turing": ("drift-turing", Bench.turing),
}
"""Part -> its section of the page, and what makes its table."""
GENERATED: Final = ("judge", "peers")
"""Parts on generated lumisections, which hang on the seed."""


def main(arguments: Sequence[str] | None = None, *, page: Path = PAGE) -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(
        prog="bench-drift", description="What is found, how soon, how often in vain."
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none")
    parser.add_argument("--quick", action="store_true", help="small sizes: for a look, not for a record")
    parser.add_argument("--write", action="store_true", help="record the tables in docs/benchmarks.md")
    parser.add_argument("--seed", type=int, default=20_261_124, help="of the generated detector")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part '{unknown[0]}': there are {', '.join(PARTS)}")
    if options.quick and options.write:
        parser.error("--quick is not for the record: leave out --write")
    bench = Bench(QUICK if options.quick else Size(), options.seed)
    sys.stdout.write(f"{_machine()}\n\n")
    for part in options.parts or PARTS:
        section, make = PARTS[part]
        text = make(bench)
        sys.stdout.write(f"{part}\n{text}\n\n")
        sys.stdout.flush()
        if options.write:
            now = datetime.now(UTC)
            seed = f"seed {options.seed}, " if part in GENERATED else ""
            replace_section(page, section, f"{now:%Y-%m-%d}, {seed}{_machine()}.\n\n{text}")
    return 0


def _machine() -> str:
    return f"{machine()}, river {metadata.version('river')}, scipy {metadata.version('scipy')}"


def _control_row(control: Quiet) -> tuple[str, ...]:
    return (
        f"in control, {control.lumisections} LS",
        str(control),
        "",
        f"{control.alarmed} alarms, {control.warned} warnings, {control.not_judged} not judged",
        f"<= {IN_CONTROL_PER_1000:g} per 1000 LS (stretch {IN_CONTROL_STRETCH_PER_1000:g})",
        _reached(control.per_1000 <= IN_CONTROL_PER_1000),
    )


def _case_row(case: Case, found: Detection) -> tuple[str, ...]:
    median = found.median_delay
    spoiled = f", {found.spoiled} in alarm before" if found.spoiled else ""
    said = f"{found.after.alarmed} of {found.after.lumisections}, {found.after.not_judged}{spoiled}"
    target, met = _target(case, found)
    if case.wanted is Wanted.NOT_JUDGED:
        said += f"; {found.outside.not_judged} of {found.outside.lumisections} outside"
    if case.wanted is not Wanted.ALARM:
        return (case.name, str(found.after), "", said, target, _reached(met))
    delay = "none" if median is None else f"{median:g}"
    return (case.name, str(found.share), delay, said, target, "" if met is None else _reached(met))


def _target(case: Case, found: Detection) -> tuple[str, bool | None]:
    """Return a case's target in words, and whether it was reached; None where there is none."""
    if case.wanted is Wanted.QUIET:
        # few lumisections: more than the budget means more than chance explains
        return case.wanted.value, found.after.interval[0] <= IN_CONTROL_PER_1000
    if case.wanted is Wanted.NOT_JUDGED:
        judged = found.outside.lumisections - found.outside.not_judged
        return case.wanted.value, found.after.episodes == 0 and judged == 0
    if case.detected_percent is None or case.delay is None:
        return "", None
    median = found.median_delay
    met = found.share.percent >= case.detected_percent and median is not None and median <= case.delay
    return f">= {case.detected_percent:g} %, <= {case.delay:g} LS", met


def _peer_row(name: str, own: Share, decisions: Sequence[dict[str, tuple[bool, float]]]) -> tuple[str, ...]:
    shares = [Share(sum(one[tool][0] for one in decisions), len(decisions)) for tool in decisions[0]]
    return (name, str(own), *(str(share) for share in shares))


def _reached(met: bool | None) -> str:
    return "yes" if met else "**missed**"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    sys.stderr.write(f"{what}: {time.perf_counter() - begun:.0f} s\n")


if __name__ == "__main__":
    sys.exit(main())
