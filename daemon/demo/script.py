"""What happens in the demo, in order, told as it happens.

The script drives everything through what a person has: the commands' own functions, the API with
an operator's token, the console's address. It holds no opinion on success; `summary` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from daemon import client
from daemon.access.people import DEFAULT_OPERATOR
from daemon.cli.output import progress
from daemon.demo.stage import RUN, Detector, RunInProgress, check_machine, prepare_folder, root_file
from daemon.demo.summary import DemoSummary, print_summary, summarise_demo
from daemon.errors import DaemonUnreachable, DemoFailed
from daemon.references.commissioning import Commissioning, Resampling
from daemon.references.installation import Installation
from daemon.store.database import open_database
from daemon.store.records import FINAL_RESPONSE_STATES, ResponseState, StepState
from hw.boards.ipbus import IPbusBoard
from hw.package import Package
from retrain.train_settings import TrainSettings
from streams.effects.effect import Effect
from streams.events.dataset import Dataset
from streams.judging.reference_store import approve_reference

MODEL = "anomaly"
_LOOK_INTERVAL_S = 0.25
_MACHINE_TIMEOUT_S = 300.0
_PERSON_TIMEOUT_S = 24 * 3600.0
_AFTERWARDS_LUMISECTIONS = 6

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class DemoOptions:
    """What a person chose.

    Attributes
    ----------
    folder
        Where everything goes.
    effect
        What happens to the detector; None: nothing.
    decision
        "approve" or "reject" without asking anybody; None waits for a person.
    good_lumisections
        How many to take before the effect sets in; also how long a run without effect goes on after them.
    events_per_lumisection
        How many events each lumisection has.
    seconds_per_lumisection
        Pace once the effect is on.
    port
        Of the console; 0 takes a free one.
    seed
        Of everything random.
    stay
        Keep everything running at the end, until Ctrl-C.
    """

    folder: Path
    effect: Effect | None
    decision: str | None
    good_lumisections: int
    events_per_lumisection: int
    seconds_per_lumisection: float
    port: int
    seed: int
    stay: bool


def run_demo(options: DemoOptions, console: Console) -> DemoSummary:
    """Play the demo to its end and return what happened.

    Raises
    ------
    DaemonError, StreamsError, HardwareError, RetrainError
        Something needed is missing or broke; the message says what to do.
    """
    check_machine(MODEL, options.effect, options.port)
    site_folder = prepare_folder(options.folder)
    overrides = {"console": {"port": options.port}}
    with Installation(site_folder, overrides, _sayer(console)) as installation:
        installation.start_daemon()
        console.print(f"[bold]console[/bold]  {installation.login_link()}", soft_wrap=True)
        demo = _Demo(options, installation, console)
        summary = demo.play()
        print_summary(summary, demo.engine, console)
        (options.folder / "summary.json").write_text(summary.model_dump_json(indent=2))
        console.print(
            f"everything is kept in {options.folder}; `lumiwatch up --site {site_folder}` starts it again",
            soft_wrap=True,
        )
        if options.stay:
            console.print("still running; Ctrl-C stops everything")
            installation.watch()
    return summary


class _Demo:
    def __init__(self, options: DemoOptions, installation: Installation, console: Console) -> None:
        self._options = options
        self._installation = installation
        self._console = console
        self._site = installation.site
        self._model = installation.site.models[MODEL]
        self.engine = open_database(installation.site.database_url)
        self._commissioning = Commissioning(installation.site, self.engine)

    def play(self) -> DemoSummary:
        dataset, package = self._commission()
        address = self._installation.start_board(MODEL, self._site.packages_dir / f"{package.id}.lwpkg")
        self._say(f"board    emulated, in a process of its own at {address}, runs {_runs_on(address)[:12]}")
        self._installation.start_worker()
        detector = Detector(
            model=MODEL,
            contract=self._model.contract,
            dataset=dataset,
            bootstrap=str(self._site.settings.kafka.bootstrap),
            board_address=address,
            events_per_lumisection=self._options.events_per_lumisection,
            effect=self._options.effect,
            seed=self._options.seed,
        )
        self._commissioning.note_replay(MODEL, RUN, dataset)
        with client.connect(self._site) as api:
            self._take_data(detector, api)
        return summarise_demo(
            self.engine,
            self._model,
            effect=self._options.effect,
            first_package=package.id,
            board_package=_runs_on(address),
        )

    def _commission(self) -> tuple[Dataset, Package]:
        """Go from the ROOT file to a signed package and an approved reference."""
        source, target = root_file(), self._options.folder / "hzz.npz"
        with self._bar("convert") as report:
            self._commissioning.convert([source], self._model.contract, target, report)
        dataset = Dataset.load(target)
        self._say(
            f"data     {dataset.n_events} simulated events of {source.name} under contract "
            f"{self._model.contract.name} ({self._model.contract.n_inputs} inputs); every lumisection "
            "draws from them anew, turned in phi and mirrored in eta"
        )
        with self._bar("train") as report:
            settings = TrainSettings(seed=self._options.seed)
            training = self._commissioning.train(self._model, [target], settings, report)
        self._say(
            f"training {training.training_id[:12]}: score = sum of mu squared, in {training.seconds:.1f} s"
        )
        with self._bar("build") as report:
            package, built = self._commissioning.build(self._model, training, target, report)
        stages = ", ".join(stage.name for stage in built.bench.stages)
        self._say(f"package  {package.short_id}, compiled in {built.build_s:.1f} s, bit-exact among {stages}")
        with self._bar("reference") as report:
            resampling = Resampling(
                events_per_lumisection=self._options.events_per_lumisection, seed=self._options.seed + 1
            )
            reference = self._commissioning.reference(self._model, dataset, package, resampling, report)
        approve_reference(self.engine, reference.id, DEFAULT_OPERATOR, datetime.now(UTC))
        self._say(f"reference {reference.id[:12]}: {reference.header.built_from}; approved")
        return dataset, package

    def _take_data(self, detector: Detector, api: client.Client) -> None:
        good = self._options.good_lumisections
        last = good if self._options.effect is not None else 2 * good
        self._say(f"run      {last} lumisections as they should be, as fast as they come")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as bars:
            taken, judged = bars.add_task("taken", total=last), bars.add_task("judged", total=last)
            detector.take(1, last, lambda lumisection: bars.update(taken, completed=lumisection))
            self._wait(
                lambda: self._judged_until(api, last, lambda number: bars.update(judged, completed=number)),
                "the worker to judge what was taken",
            )
        if self._options.effect is None:
            self._say("nothing was done to the detector; nothing should have happened")
            return
        self._say(
            f"drift    {self._options.effect}: from now on one lumisection every "
            f"{self._options.seconds_per_lumisection:g} s (23.3 s at the LHC)"
        )
        with detector.running(last + 1, self._options.seconds_per_lumisection) as run:
            self._follow(api, run)

    def _follow(self, api: client.Client, run: RunInProgress) -> None:
        """Follow the incident from alarm to its end."""
        incident = self._wait(lambda: _first(api.get("/incidents", model=MODEL)), "an alarm", run)
        self._say(f"[bold red]alarm[/bold red]    {incident['id']}: {escape(incident['reason'])}")
        response = self._wait(lambda: self._proposed(api, incident["id"]), "a proposal", run)
        self._show_messages(api, incident["id"])
        self._decide(api, response, run)
        final = self._follow_steps(api, response["id"], run)
        self._say(f"response {final['state']}: {escape(final['outcome'] or '')}")
        if final["state"] == ResponseState.SUCCEEDED:
            self._wait_afterwards(api, run)

    def _decide(self, api: client.Client, response: dict[str, Any], run: RunInProgress) -> None:
        if self._options.decision is None:
            self._say(
                f"[bold yellow]waiting[/bold yellow] for an operator: open the console, or run\n"
                f"         lumiwatch approve {response['id']} --site {self._installation.site.folder}"
            )
            self._wait(
                lambda: api.get(f"/responses/{response['id']}")["state"] != ResponseState.PROPOSED,
                "a decision",
                run,
                timeout_s=_PERSON_TIMEOUT_S,
            )
            return
        content = {
            "decision": self._options.decision,
            "comment": "decided by the demo's options",
            "via": "cli",
        }
        api.post(f"/responses/{response['id']}/decisions", content)
        self._say(f"decision {self._options.decision}, by option, as operator {DEFAULT_OPERATOR}")

    def _follow_steps(self, api: client.Client, response_id: str, run: RunInProgress) -> dict[str, Any]:
        told: set[str] = set()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        with Progress(*columns, console=self._console, transient=True) as bars:
            bar = bars.add_task("response", total=1.0, note="")

            def look() -> dict[str, Any] | None:
                detail: dict[str, Any] = api.get(f"/responses/{response_id}")
                for step in detail["steps"]:
                    if step["state"] in (StepState.DONE, StepState.FAILED) and step["name"] not in told:
                        told.add(step["name"])
                        self._say(f"         {step['title'].lower()}: {escape(step['detail'])}")
                running = [step for step in detail["steps"] if step["state"] == StepState.RUNNING]
                note = running[0]["detail"] if running else ""
                bars.update(bar, completed=detail["progress"], note=escape(note[:70]))
                return detail if ResponseState(detail["state"]) in FINAL_RESPONSE_STATES else None

            return self._wait(look, "the response to end", run)

    def _wait_afterwards(self, api: client.Client, run: RunInProgress) -> None:
        """Take a few more lumisections, judged by the successor reference."""
        start = self._last_judged(api)
        self._wait(
            lambda: self._last_judged(api) >= start + _AFTERWARDS_LUMISECTIONS, "lumisections after", run
        )

    def _show_messages(self, api: client.Client, incident_id: str) -> None:
        heads = [m for m in api.get("/notifications", incident=incident_id) if m["action"] != "reply"]
        for message in heads[-1:]:  # a head message is edited in place: the last one is what people see
            self._console.rule(f"message as it is sent ({message['channel']}, {message['state']})")
            self._console.print(message["payload"]["text"], markup=False, soft_wrap=True)
        self._console.rule()

    def _proposed(self, api: client.Client, incident_id: str) -> dict[str, Any] | None:
        response = _first(api.get("/responses", incident=incident_id))
        if response is None or response["state"] == ResponseState.PREPARING:
            return None
        messages = api.get("/notifications", incident=incident_id)
        return response if messages else None

    def _judged_until(self, api: client.Client, last: int, tell: Callable[[int], None]) -> bool:
        judged = self._last_judged(api)
        tell(judged)
        return judged >= last

    @staticmethod
    def _last_judged(api: client.Client) -> int:
        verdict = api.get(f"/models/{MODEL}")["verdict"]
        return 0 if verdict is None else int(verdict["lumisection"])

    def _wait(
        self,
        look: Callable[[], _Found | None],
        what: str,
        run: RunInProgress | None = None,
        timeout_s: float = _MACHINE_TIMEOUT_S,
    ) -> _Found:
        """Look again and again until there is something, while every process and the replay live."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = None
            with suppress(DaemonUnreachable):  # it is being started again, or `check` says why not
                found = look()
            if found:
                return found
            self._installation.check()
            if run is not None:
                run.check()
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"waited {timeout_s:.0f} s for {what} in vain; see {self._site.state_dir / 'logs'}"
                )
            time.sleep(_LOOK_INTERVAL_S)

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    @contextmanager
    def _bar(self, title: str) -> Iterator[Callable[[float, str], None]]:
        with progress(f"{title:<9}", console=self._console) as report:
            yield report


def _runs_on(address: str) -> str:
    """Ask a board which package it runs."""
    with closing(IPbusBoard(address)) as board:
        return board.identify().package_id


def _first(items: list[dict[str, Any]]) -> dict[str, Any] | None:
    return items[0] if items else None


def _sayer(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, soft_wrap=True, markup=False)
