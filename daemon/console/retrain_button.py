"""The button that asks for a retraining without an alarm, with a reason for those who are to approve it.

Whether somebody may ask is decided by `operations` at the moment of the click.
"""

from nicegui import run, ui

from daemon.access.roles import Act
from daemon.console.layout import Visit, heading, still_logged_in
from daemon.errors import DaemonError
from daemon.process.services import Services


def retrain_button(visit: Visit, services: Services, model: str) -> None:
    """Offer to ask for a retraining, to those who may, of a model that has firmware."""
    if not visit.may(Act.RETRAIN) or not services.site.models[model].has_firmware:
        return

    async def ask() -> None:
        reason = await _reason(model)
        if not reason:
            return

        def request() -> str:
            operator = still_logged_in(visit, services)
            return services.operations.request_retrain(
                model, operator=operator.name, reason=reason, via="console"
            )

        try:
            response = await run.io_bound(request)
        except DaemonError as error:
            ui.notify(f"Not accepted: {error}", type="negative", multi_line=True)
        else:
            if response is not None:  # None: the daemon is stopping
                ui.navigate.to(f"/incidents/{response.rsplit('-', 1)[0]}")

    ui.button("Ask for retraining", icon="model_training", color="grey-8", on_click=ask).classes(
        "lw-button"
    ).props("unelevated")


async def _reason(model: str) -> str:
    """Ask why; empty when the person thought better of it."""
    with ui.dialog() as dialog, ui.card().classes("lw-panel").style("max-width:520px"):
        heading(f"Retrain {model} without an alarm?", 2)
        ui.label("It is proposed to the approvers, as after an alarm. Nothing happens without them.")
        why = ui.input("Why").props("outlined dense maxlength=500 autofocus").classes("w-full")
        with ui.element("div").classes("lw-row"):
            yes = ui.button("Ask", color="blue-9").classes("lw-button").props("unelevated")
            yes.on_click(lambda: dialog.submit(str(why.value or "").strip()))
            no = ui.button("Cancel", color="grey-8").classes("lw-button").props("unelevated")
            no.on_click(lambda: dialog.submit(""))
    answer = str(await dialog or "")
    dialog.delete()
    return answer
