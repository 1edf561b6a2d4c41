"""Options that make no sense, alone or together."""

import socket

import pytest

from streams.broker import embedded as broker
from streams.effects.kinds import describe_kinds


@pytest.fixture
def replay(lumiwatch, trained_site, dataset, monkeypatch):
    """Replay to a broker that does not answer, through a board that does not answer."""
    monkeypatch.setenv("LUMIWATCH_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    board = trained_site / "state" / "boards" / "anomaly.json"
    board.parent.mkdir(parents=True, exist_ok=True)
    board.write_text('{"address": "127.0.0.1:1"}')

    def run(*options: object):
        given = {"--model": "anomaly", "--run": 5, "--site": trained_site}
        given |= dict(zip(options[::2], options[1::2], strict=True))
        return lumiwatch("replay", dataset, *(part for pair in given.items() for part in pair))

    return run


def test_a_replay_without_a_broker_is_one_line(replay):
    assert "no broker answers at 127.0.0.1:1" in replay().line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--first", 9, "--last", 3), "lumisections 9 to 3"),
        (("--events", 1), "1 events in 2 batches: give at least one event for each batch"),
        (("--rate", "inf"), "give 0 or more"),
        (("--model", "muons"), "model 'muons' is not watched at this site; known models: anomaly"),
        (("--effect", "gain"), "effect 'gain' is badly written"),
        (("--condition", "bunches"), "condition 'bunches' is not understood: write it as bunches=2400"),
        (("--effect", "jet_shift=2"), "unknown kind 'shift': known are bit, dead, gain, hole"),
        (("--effect", "tau_gain=1.1@LS50"), "contract 'anomaly' has pt for egamma, jet, met, muon"),
        (("--effect", "jet_dead=10@LS50"), "contract 'anomaly' has no jet[10]"),
        (("--effect", "jet_dead=3@LS50+10"), "dead is all or nothing and cannot grow: drop +10"),
        (("--rate", "nan"), "rate nan s per lumisection: give 0 or more"),
    ],
)
def test_a_replay_that_cannot_be_is_refused_before_it_begins(replay, options, said):
    assert said in replay(*options).line


def test_every_effect_of_several_is_looked_at(replay, lumiwatch, trained_site, dataset):
    given = ("replay", dataset, "--model", "anomaly", "--run", 5, "--site", trained_site)
    effects = ("--effect", "jet_gain=1.05", "--effect", "met_tail=3")
    assert "option 'fraction' is missing: write for example" in lumiwatch(*given, *effects).line


@pytest.mark.parametrize("command", ["replay", "demo"])
def test_the_help_shows_how_every_effect_is_written(lumiwatch, command):
    lines = lumiwatch(command, "--help").out.splitlines()
    for example, says in describe_kinds():
        assert f"  {example}" in lines
        assert any(line.strip() == says for line in lines)


@pytest.mark.parametrize("options", [("--events", 0), ("--first", 0), ("--run", -1), ("--seed", -1)])
def test_a_replay_out_of_range_is_a_usage_error(replay, options):
    assert f"Invalid value for '{options[0]}'" in replay(*options).usage


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--lumisections", 15), "15 lumisections are too few to calibrate a reference: give 16 or more"),
        (("--pileup", "inf"), "pileup inf: give a number from 0 on"),
    ],
)
def test_a_reference_that_cannot_be_is_refused(lumiwatch, trusting_site, dataset, packages, options, said):
    build = ["reference", "build", dataset, "--model", "anomaly", "--package", packages.first.path]
    assert said in lumiwatch(*build, "--site", trusting_site, *options).line


@pytest.mark.parametrize(
    "options",
    [
        ("reference", "build", "d.npz", "--package", "p.lwpkg", "--lumisections", 0),
        ("reference", "build", "d.npz", "--package", "p.lwpkg", "--events", 0),
        ("reference", "build", "d.npz", "--package", "p.lwpkg", "--pileup", -1),
        ("reference", "build", "d.npz", "--package", "p.lwpkg", "--seed", -1),
        ("train", "d.npz", "--accept-rate", 0),
        ("train", "d.npz", "--accept-rate", 2),
        ("train", "d.npz", "--seed", -1),
        ("train", "d.npz", "--seed", "many"),
    ],
)
def test_a_number_out_of_range_is_a_usage_error(lumiwatch, site, options):
    ended = lumiwatch(*options, "--model", "anomaly", "--site", site)
    assert f"Invalid value for '{options[-2]}'" in ended.usage
    assert not (site / "state").exists()


def test_a_worker_needs_a_plain_name(lumiwatch, site):
    assert "Invalid value for '--name'" in lumiwatch("worker", "--site", site, "--name", "../x").usage


def test_a_worker_needs_a_broker(lumiwatch, site, monkeypatch):
    assert "broker" in lumiwatch("worker", "--site", site).line
    monkeypatch.setenv("LUMIWATCH_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    assert "no broker answers at 127.0.0.1:1: start it" in lumiwatch("worker", "--site", site).line


def test_a_broker_that_takes_connections_and_says_nothing_is_named(lumiwatch, site, monkeypatch, caplog):
    monkeypatch.setattr(broker, "ADMIN_TIMEOUT_MS", 300)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        monkeypatch.setenv("LUMIWATCH_KAFKA__BOOTSTRAP", address)
        line = lumiwatch("worker", "--site", site).line
    assert f"what listens at {address} does not answer as a Kafka broker" in line
    # the client's own words would stand around that line
    assert not [record for record in caplog.records if record.name.startswith("kafka")]
