"""`lumiwatch up`, `serve`, `worker`, `config check`: the processes of a site, and what their settings say."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from daemon.cli.output import DEFAULT_SITE, JsonOption, SiteOption, out, print_json, print_record
from daemon.site.sections import FirmwareSettings
from daemon.site.settings import Site, SiteModel, load_site
from streams.broker.limits import default_limit_bytes

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")
config = typer.Typer(no_args_is_help=True, help="The site's configuration.")
PortOption = Annotated[int | None, typer.Option(help="Console port; 0 takes a free one.", min=0, max=65535)]


def _plain_name(name: str) -> str:
    if not _PLAIN_NAME.match(name):  # it becomes a folder
        raise typer.BadParameter("give letters, digits, '-' and '_', 63 at most")
    return name


def serve(site: SiteOption = DEFAULT_SITE) -> None:
    """Run the daemon: incidents, responses, alerts, console and API."""
    from daemon.process.service import serve as run_daemon

    run_daemon(load_site(site))


def reload(site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """Let the daemon read its configuration again; exit code 2 says why the files are refused."""
    from daemon.client import connect
    from daemon.errors import SettingsError

    loaded = load_site(site)  # what is wrong is said here, and the daemon is not even asked
    with connect(loaded) as client:
        configuration = client.post("/configuration/reload", {})
    if configuration["refused"] is not None:
        raise SettingsError(str(configuration["refused"]))
    if as_json:
        print_json(configuration)
        return
    out.print("the configuration was read again")
    for key in configuration["needs_restart"]:
        out.print(f"takes effect at the next start: {key}", soft_wrap=True, markup=False)


def login(site: SiteOption = DEFAULT_SITE) -> None:
    """Print the link that opens the console in a browser; it holds your token, so keep it to yourself."""
    from daemon.client import browser_link

    typer.echo(browser_link(load_site(site)))


def worker(
    site: SiteOption = DEFAULT_SITE,
    name: Annotated[
        str, typer.Option(help="Name of this worker, unique in the site.", callback=_plain_name)
    ] = "worker",
) -> None:
    """Run one stream worker: batches to summaries, windows, assessments and verdicts."""
    from daemon.references.installation import worker_settings
    from daemon.responses.emulators import SiteEmulators
    from daemon.store.database import open_database
    from streams.worker import run_worker

    loaded = load_site(site)
    settings = worker_settings(loaded, name)
    # the worker itself knows no schema version: this brings a new or older database up to date
    engine = open_database(loaded.database_url)
    run_worker(settings, SiteEmulators(loaded, engine))


def up(site: SiteOption = DEFAULT_SITE, port: PortOption = None) -> None:
    """Run everything of a site on this machine: broker, worker, daemon, emulated boards."""
    from daemon.process.console_address import bind
    from daemon.references.installation import Installation

    overrides = {} if port is None else {"console": {"port": port}}

    def say(line: str) -> None:
        out.print(line, soft_wrap=True, markup=False)

    bind(load_site(site, overrides=overrides)).close()  # a port in use: say so before anything is started
    with Installation(site, overrides=overrides, say=say) as installation:
        if installation.broker_is_embedded:
            say("broker: embedded, in memory; messages that wait in it are lost when this command ends")
        # boards first: a response that was under way goes on as soon as the daemon runs
        for model in installation.site.models.values():
            if model.has_firmware and model.settings.firmware.board == "emulated":
                address = installation.start_last_board(model.name)
                none_yet = "no package yet; build one with `lumiwatch hw build`"
                out.print(f"board of {model.name}: {address or none_yet}")
        installation.start_worker()
        installation.start_daemon()
        say(f"console: {installation.login_link()}")
        out.print("running; Ctrl-C stops everything")
        installation.watch()


@config.command()
def check(site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """Read the whole configuration and say what it means; exit code 2 names the first thing that is wrong."""
    loaded = load_site(site)
    facts = {
        "site": loaded.name,
        "state": str(loaded.state_dir),
        "broker": _broker(loaded),
        "console": loaded.console_url(),
        "chat": _chat(loaded.settings.mattermost.url, loaded.settings.mattermost.webhook_url_file),
        **{f"model {model.name}": _described(model) for model in loaded.models.values()},
    }
    if as_json:
        print_json(facts)
    else:
        print_record("the configuration is sound", facts)


def _described(model: SiteModel) -> str:
    firmware = _board(model.settings.firmware) if model.has_firmware else "histograms, no firmware"
    return (
        f"{model.contract.n_inputs} inputs, contract {model.contract.version}, {firmware}, "
        f"approvers {', '.join(model.policy.approvers)}"
    )


def _board(firmware: FirmwareSettings) -> str:
    one_client = " (one client at a time)" if firmware.board.startswith("udp://") else ""
    if not firmware.scrub_interval_s:
        return f"board {firmware.board}{one_client}, not scrubbed"
    repair = "repaired" if firmware.scrub_repair else "said only"
    return (
        f"board {firmware.board}{one_client}, scrubbed every {firmware.scrub_interval_s:g} s "
        f"(flipped bits are {repair})"
    )


def _broker(site: Site) -> str:
    kafka = site.settings.kafka
    if kafka.bootstrap is None:
        limit = kafka.embedded_max_bytes or default_limit_bytes()
        return f"embedded, in memory, at most {limit >> 20} MiB"
    site.kafka_security.client_options()  # its files can be read, or this says which cannot
    return f"{kafka.bootstrap}, {site.kafka_security.describe()}"


def _chat(url: str | None, webhook: object) -> str:
    if url:
        return f"Mattermost bot at {url}"
    return "Mattermost webhook" if webhook else "none: messages are kept in the console"
