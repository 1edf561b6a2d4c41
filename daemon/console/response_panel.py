"""The panel where a response is watched and decided: steps with live progress, strategies, three answers.

The rights are checked by `operations`, for the session as it is at the moment of the click. What the panel
shows to people who may not decide is a courtesy.
"""

from collections.abc import Callable

from nicegui import run, ui

from daemon.access.roles import Act
from daemon.console.layout import Visit, badge, heading, still_logged_in, table
from daemon.console.live import Live
from daemon.console.looks import RESPONSES, STEPS
from daemon.console.wording import clock, duration, short
from daemon.errors import DaemonError
from daemon.process.services import Services
from daemon.responses.hardware_plan import HardwarePlan
from daemon.responses.policy import RELOAD, Proposal
from daemon.responses.what_next import waiting_words
from daemon.store import queries, views
from daemon.store.records import FINAL_RESPONSE_STATES, DecisionKind, DecisionStage, ResponseState, StepState

_ANSWERS = {
    DecisionKind.APPROVE: "approved",
    DecisionKind.REJECT: "rejected",
    DecisionKind.PRESCALE_OUT: "answered with prescale out",
}

_BUTTONS = {
    DecisionKind.APPROVE: ("Approve", "check", "blue-9"),
    DecisionKind.REJECT: ("Reject", "close", "grey-8"),
    DecisionKind.PRESCALE_OUT: ("Prescale out", "do_not_disturb_on", "deep-orange-10"),
}


class ResponsePanel:
    """One response, live.

    Parameters
    ----------
    visit, services
        Who looks, and at which site.
    response_id
        Such as ``anomaly-3-r1``.
    """

    def __init__(self, visit: Visit, services: Services, response_id: str) -> None:
        self._visit = visit
        self._services = services
        self._response_id = response_id
        self._strategy: str | None = None
        self._comment = ""
        self._form_state: object = None
        self._known: ui.label | None = None

    async def build(self) -> None:
        """Draw the panel and keep it up to date."""
        with ui.element("section").classes("lw-panel").props(f'aria-label="Response {self._response_id}"'):
            self._head = ui.element("div").classes("lw-stack").style("gap:8px")
            self._said = ui.label().classes("lw-notice").props('role="alert"')
            self._said.set_visibility(False)
            self._form = ui.element("div").classes("lw-stack").style("gap:12px")
            self._live = Live(
                lambda: queries.response(self._services.engine, self._response_id), self._show, interval_s=1.0
            )
            await self._live.refresh()

    def _show(self, response: views.ResponseDetail) -> None:
        self._head.clear()
        with self._head:
            with ui.element("div").classes("lw-row lw-spread"):
                heading(f"Response {response.id}", 2)
                badge(RESPONSES[response.state])
            if response.outcome:
                ui.label(response.outcome).classes(f"lw-notice {RESPONSES[response.state].tone}")
        asked = response.waits_for
        escalated = asked is not None and bool(asked.escalated_to)
        form_state = (response.state, len(response.decisions), response.estimate is None, escalated)
        if form_state != self._form_state:
            # drawn only when something was decided: nobody's choice or comment is wiped while typing
            if response.state in FINAL_RESPONSE_STATES:
                self._said.set_visibility(False)
            self._form_state = form_state
            self._form.clear()
            with self._form:
                self._show_form(response)
        elif self._known is not None and response.estimate is not None:
            self._known.set_text(str(response.estimate["summary"]))  # a trial has added to it
        if response.state is ResponseState.RUNNING:
            _bar(response.progress, f"{100 * response.progress:.0f} % of the whole response")
        if response.steps and response.state is not ResponseState.PROPOSED:
            with ui.element("div").props('role="list" aria-label="Steps"').style("width:100%"):
                for step in response.steps:
                    _step(step)
        _decisions(response)

    def _show_form(self, response: views.ResponseDetail) -> None:
        if not response.proposal:
            ui.label("The proposal is being prepared.").classes("lw-muted")
            return
        proposal = Proposal.model_validate(response.proposal)
        ui.label(proposal.summary)
        if response.estimate is not None:
            self._known = ui.label(str(response.estimate["summary"])).classes("lw-muted")
        asked = response.waits_for
        if asked is None:
            return
        self._show_who(proposal, asked)
        if response.hardware is not None:
            _show_hardware(HardwarePlan.model_validate(response.hardware))
        if not self._visit.may(Act.DECIDE):
            return
        if asked.stage is DecisionStage.RESPONSE:
            self._show_strategies(proposal)
        else:
            self._strategy = None
        ui.input("Comment (kept with the decision)").props("outlined dense maxlength=500").classes(
            "w-full"
        ).on_value_change(self._type)
        with ui.element("div").classes("lw-row"):
            for kind, words in _BUTTONS.items():
                self._button(kind, *words)
        for alternative in proposal.alternatives:
            ui.label(f"{_words(alternative.decision)}: {alternative.text}").classes("lw-muted")

    def _show_who(self, proposal: Proposal, asked: views.Waiting) -> None:
        """Say who has approved, who is missing and until when; and whether it is who looks."""
        name = self._visit.operator.name
        if name not in proposal.approvers:
            ui.label(
                f"You are logged in as {name}, and {name} may not decide this. "
                f"Ask {' or '.join(proposal.approvers)}."
            ).classes("lw-notice quiet")
        ui.label(waiting_words(asked)).classes("lw-notice warning" if asked.escalated_to else "")

    def _show_strategies(self, proposal: Proposal) -> None:
        default = next((option.strategy for option in proposal.options if option.default), None)
        self._strategy = self._strategy or default or proposal.options[0].strategy
        options = {
            option.strategy: f"{_words(option.strategy)}: {option.text}" for option in proposal.options
        }
        with ui.element("fieldset").classes("lw-choice").style("border:0;padding:0;margin:0"):
            with ui.element("legend").classes("lw-step-title"):
                ui.label("How to retrain" if proposal.kind == "retrain" else "What to do")
            ui.radio(options, value=self._strategy).on_value_change(self._choose)

    def _button(self, kind: DecisionKind, words: str, icon: str, colour: str) -> None:
        async def decide() -> None:
            if await self._confirmed(kind, words):
                await self._decide(kind)

        ui.button(words, icon=icon, color=colour, on_click=decide).classes("lw-button").props("unelevated")

    async def _confirmed(self, kind: DecisionKind, words: str) -> bool:
        """Ask once more: a decision is single-use, and it is late at night."""
        if self._strategy is None:
            approved = (
                "The package goes onto the board now. New lumisections verify it, or it is rolled back."
            )
        elif self._strategy == RELOAD:
            approved = "Load the same package onto the board once more. Nothing is retrained."
        else:
            strategy = _words(self._strategy).lower()
            approved = f"Retrain ({strategy}) and reconfigure the board if a candidate passes."
        consequence = {
            DecisionKind.APPROVE: approved,
            DecisionKind.REJECT: "The firmware stays as it is, and the incident stays open.",
            DecisionKind.PRESCALE_OUT: "The firmware stays as it is, and the shift is told to prescale out.",
        }[kind]
        with ui.dialog() as dialog, ui.card().classes("lw-panel").style("max-width:520px"):
            heading(f"{words}: {self._response_id}?", 2)
            ui.label(consequence)
            ui.label("A decision cannot be taken back.").classes("lw-muted")
            with ui.element("div").classes("lw-row"):
                yes = ui.button(f"Yes, {words.lower()}", color=_BUTTONS[kind][2])
                yes.on_click(lambda: dialog.submit(result=True)).classes("lw-button").props(
                    "unelevated autofocus"
                )
                no = ui.button("Cancel", color="grey-8").classes("lw-button").props("unelevated")
                no.on_click(lambda: dialog.submit(result=False))
        answer = bool(await dialog)
        dialog.delete()
        return answer

    def _choose(self, event: object) -> None:
        self._strategy = str(getattr(event, "value", "")) or None

    def _type(self, event: object) -> None:
        self._comment = str(getattr(event, "value", "") or "")

    async def _decide(self, kind: DecisionKind) -> None:
        """Hand one decision in and say what became of it."""
        act = self._act(kind)
        try:
            await run.io_bound(act)
        except DaemonError as error:
            self._tell(f"Not accepted: {error}", "alarm")
        else:
            self._tell(f"You {_ANSWERS[kind]} {self._response_id}.", "good")
        await self._live.refresh()

    def _act(self, kind: DecisionKind) -> Callable[[], None]:
        strategy = self._strategy if kind is DecisionKind.APPROVE else None
        comment = self._comment

        def act() -> None:
            operator = still_logged_in(self._visit, self._services)
            self._services.operations.decide(
                self._response_id,
                kind,
                operator=operator.name,
                strategy=strategy,
                comment=comment,
                via="console",
            )

        return act

    def _tell(self, words: str, tone: str) -> None:
        self._said.set_text(words)
        self._said.classes(tone, remove="good alarm")
        self._said.set_visibility(True)


def _show_hardware(plan: HardwarePlan) -> None:
    """Show what goes onto the board, how it was proven and which way it takes."""
    table(
        ("for the board", ""),
        [
            ("package", short(plan.package)),
            ("in place of", short(plan.previous_package)),
            ("strategy", _words(plan.strategy)),
            ("proof", plan.bench),
            ("plan", f"{plan.plan}: {plan.plan_reason}"),
        ],
    )


def _step(step: views.StepView) -> None:
    look = STEPS[step.state]
    with ui.element("div").classes("lw-step").props('role="listitem"'):
        ui.icon(look.icon).classes(f"lw-{look.tone}").props('aria-hidden="true"')
        with ui.element("div"):
            ui.label(step.title).classes("lw-step-title")
            if step.detail:
                ui.label(step.detail).classes("lw-muted")
        with ui.element("div").style("text-align:right"):
            ui.label(look.word).classes(f"lw-{look.tone}").style("font-weight:600")
            ui.label(duration(step.started_at, step.ended_at)).classes("lw-muted")
        if step.state is StepState.RUNNING and step.progress > 0:
            _bar(step.progress, f"{step.title}: {100 * step.progress:.0f} %")


def _bar(fraction: float, words: str) -> None:
    value = min(max(fraction, 0.0), 1.0) * 100
    with (
        ui.element("div")
        .classes("lw-bar")
        .style("width:100%")
        .props(f'role="progressbar" aria-valuenow="{value:.0f}" aria-valuemin="0" aria-valuemax="100"')
        .props(f'aria-label="{words}"')
    ):
        ui.element("div").style(f"width:{value:.1f}%")


def _decisions(response: views.ResponseDetail) -> None:
    facts = [
        ("strategy taken", response.strategy),
        ("package before", short(response.previous_package) if response.previous_package else None),
        ("new package", short(response.candidate_package) if response.candidate_package else None),
        ("successor reference", short(response.reference_id) if response.reference_id else None),
    ]
    for name, value in facts:
        if value is not None:
            ui.label(f"{name}: {value}").classes("lw-muted")
    for decision in response.decisions:
        strategy = f" with {_words(decision.strategy).lower()}" if decision.strategy else ""
        comment = f": {decision.comment}" if decision.comment else ""
        board = ", for the board," if decision.stage is DecisionStage.HARDWARE else ""
        answer = f"{decision.operator}{board} {_ANSWERS[decision.kind]}"
        ui.label(f"{clock(decision.at)} {answer}{strategy} ({decision.via}){comment}")


def _words(name: str | None) -> str:
    return (name or "").replace("_", " ").capitalize()
