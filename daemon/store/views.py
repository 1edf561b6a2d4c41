"""What the API, the console and the command line show: read models, as pydantic classes.

Plain data with units in names. Knows no database and no web framework.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from daemon.store.records import (
    DecisionKind,
    DecisionStage,
    IncidentKind,
    IncidentState,
    NotificationState,
    ResponseState,
    StepState,
)
from hw.report import BenchReport
from streams.judging.verdict import Verdict


class View(BaseModel):
    """Base of all views."""

    model_config = ConfigDict(frozen=True)


class VerdictView(Verdict):
    """One verdict on the timeline, with the time it reached the daemon."""

    received_at: datetime


class VerdictMark(View):
    """A verdict in a strip of many."""

    lumisection: int
    state: str
    rate_deviation: float | None
    received_at: datetime


class ModelStatus(View):
    """How one monitored model is now."""

    model: str
    description: str
    contract_version: int
    n_inputs: int
    verdict: VerdictView | None
    package: str | None  # of the latest judged window
    reference_id: str | None
    incident: IncidentView | None
    response: ResponseView | None
    windows_judged: int
    rate_band: float
    board: str
    toolchain: str
    approvers: list[str]
    has_firmware: bool = True  # false: watched by histograms, which have no accept rate


class IncidentView(View):
    """One incident in a list."""

    id: str
    model: str
    kind: IncidentKind = IncidentKind.ALARM
    state: IncidentState
    simulated: bool
    run: int
    onset_lumisection: int
    first_lumisection: int
    last_run: int
    last_lumisection: int
    families: list[str]
    reason: str
    package: str
    reference_id: str | None
    opened_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None
    instruction: str | None
    reopened: int = 0  # how often it came back


class IncidentEventView(View):
    """One line of an incident's history."""

    at: datetime
    kind: str
    actor: str
    text: str
    response_id: str | None
    detail: dict[str, Any]


class StepView(View):
    """One step of a response."""

    number: int
    name: str
    title: str
    state: StepState
    started_at: datetime | None
    ended_at: datetime | None
    progress: float
    detail: str
    result: dict[str, Any]


class DecisionView(View):
    """One operator's answer."""

    stage: DecisionStage = DecisionStage.RESPONSE
    operator: str
    kind: DecisionKind
    strategy: str | None
    comment: str
    via: str
    at: datetime


class ResponseView(View):
    """One response in a list."""

    id: str
    incident_id: str
    model: str
    state: ResponseState
    requested_by: str
    created_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    decide_by: datetime | None = None  # while it waits for a decision
    escalated_at: datetime | None = None
    ended_at: datetime | None
    strategy_requested: str | None
    strategy: str | None
    previous_package: str | None
    candidate_package: str | None
    training_id: str | None
    reference_id: str | None
    current_step: str | None
    progress: float
    outcome: str | None


class Waiting(View):
    """What a response asks operators now, and of whom."""

    stage: DecisionStage
    needed: int
    approved_by: list[str]  # in this stage
    missing: list[str]  # who may still answer
    until: datetime | None
    escalated_to: list[str]  # once it was


class ResponseDetail(ResponseView):
    """One response with its proposal, decisions and steps."""

    proposal: dict[str, Any]  # see policy.Proposal
    estimate: dict[str, Any] | None = None  # see estimate.Estimate
    hardware: dict[str, Any] | None = None  # see hardware_plan.HardwarePlan: what goes onto the board
    waits_for: Waiting | None = None
    decisions: list[DecisionView]
    steps: list[StepView]


class NotificationView(View):
    """One message to the outside, with its exact payload."""

    id: str
    incident_id: str | None
    channel: str
    action: str
    payload: dict[str, Any]
    state: NotificationState
    attempts: int
    created_at: datetime
    delivered_at: datetime | None
    post_id: str | None
    root_id: str | None
    last_error: str | None


class IncidentDetail(IncidentView):
    """One incident with everything that belongs to it."""

    opening_verdict: dict[str, Any]
    latest_verdict: dict[str, Any]
    events: list[IncidentEventView]
    responses: list[ResponseView]
    notifications: list[NotificationView]


class EventView(View):
    """One happening, as published to `lumiwatch.events`."""

    sequence: int
    id: str
    at: datetime
    kind: str
    actor: str
    model: str | None
    incident_id: str | None
    response_id: str | None
    simulated: bool
    text: str
    detail: dict[str, Any]
    previous: str  # hash of the event before, see docs/audit.md
    hash: str


class WindowView(View):
    """One window: all summaries of one model, lumisection and package."""

    model: str
    run: int
    lumisection: int
    package: str
    state: str
    n_events: int
    n_accept: int | None
    late_events: int
    accept_rate: float | None
    expected_rate: float | None
    pileup: float | None


class ReferenceView(View):
    """One reference and who approved it."""

    id: str
    model: str
    package: str
    state: str
    parent_id: str | None
    built_from: str
    n_events: int
    n_lumisections: int
    created_at: datetime
    approved_by: str | None
    approved_at: datetime | None


class PackageView(View):
    """One firmware package known to the site."""

    id: str
    name: str
    version: str
    path: str
    structure_hash: str
    weights_hash: str
    contract_hash: str
    toolchain: str
    toolchain_version: str
    bench_passed: bool
    parent_id: str | None
    training_id: str | None
    recorded_at: datetime


class BoardOperationView(View):
    """One thing that was done to a board, successful or not."""

    at: datetime
    model: str | None  # of the package that was to be loaded; None where the site does not know it
    board: str
    simulated: bool
    plan_kind: str
    from_package: str
    to_package: str
    outcome: str
    reason: str
    load_s: float
    switch_s: float  # the board answered nothing: dead time
    golden_events: int
    golden_mismatches: int
    operator: str | None


class BenchView(View):
    """One bench of one package: each way of computing the scores beside the bit-accurate emulator."""

    title: str
    at: datetime | None
    report: BenchReport


class BoardStatus(View):
    """What one board says of itself; `reachable` is false when it does not answer."""

    model: str
    address: str
    reachable: bool
    error: str | None = None
    simulated: bool | None = None
    package_id: str | None = None
    shell_hash: str | None = None
    partition_hashes: list[str] = []  # structure of every reconfigurable partition, in the order of the data
    structure_hash: str | None = None
    weights_hash: str | None = None
    active_bank: int | None = None
    counters: dict[str, int] = {}


class LineageNode(View):
    """One artefact."""

    id: str
    kind: str
    depth: int  # steps away from the node asked for; negative: made from it


class LineageEdge(View):
    """One "made from"."""

    child: str
    parent: str
    relation: str
    at: datetime | None = None  # when it was noted


class LineageGraph(View):
    """Everything an artefact was made from (and, when asked, what was made from it)."""

    root: str
    nodes: list[LineageNode]
    edges: list[LineageEdge]


class WorkerView(View):
    """How one stream worker is."""

    worker: str
    host: str
    seen_at: datetime
    stale: bool  # it has said nothing for more than 10 s
    behind: bool  # it cannot keep up
    lag_messages: int
    lag_s: float
    events_per_s: int
    rss_bytes: int
    words: str  # one sentence, without its full stop
    counters: dict[str, int]
    lumisections: dict[str, int]  # model -> lumisection of the batch handled last


class Health(View):
    """Whether the daemon is ready for work, and if not, why."""

    ready: bool
    version: str
    site: str
    checks: dict[str, str]  # name -> "ok" or what is wrong
    notes: dict[str, str] = {}  # what is to be known, and is no reason to be not ready


class ConfigurationView(View):
    """The configuration as loaded, without secrets."""

    files: dict[str, str]  # path -> SHA-256
    loaded_at: datetime
    refused: str | None  # why the files of now are not in effect
    refused_at: datetime | None
    needs_restart: list[str]  # keys that have changed and are not in effect
    settings: dict[str, Any]
    models: dict[str, dict[str, Any]]


ModelStatus.model_rebuild()
