from pathlib import Path

import pytest

from daemon.errors import SettingsError
from daemon.site.settings import load_site


def test_the_example_site_loads(site_folder: Path):
    site = load_site(site_folder)

    model = site.models["anomaly"]
    assert site.settings.console.port == 8642
    assert model.contract.n_inputs == 57
    assert model.policy.strategies[0] == "input_recalibration"
    assert site.state_dir == site_folder / "state"
    assert site.database_url == f"sqlite:///{site_folder}/state/lumiwatch.sqlite"


def test_the_toml_file_itself_may_be_named(site_folder: Path):
    assert load_site(site_folder / "lumiwatch.toml").folder == site_folder


def test_environment_wins_over_overrides_and_overrides_over_file(
    site_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LUMIWATCH_CONSOLE__PORT", "8701")
    monkeypatch.setenv("LUMIWATCH_KAFKA__BOOTSTRAP", "127.0.0.1:9092")

    site = load_site(site_folder, overrides={"console": {"port": 8700}, "site": "Elsewhere"})

    assert site.settings.console.port == 8701
    assert site.settings.console.host == "127.0.0.1"
    assert site.settings.kafka.bootstrap == "127.0.0.1:9092"
    assert site.name == "Elsewhere"


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("lumiwatch.toml", "port = 8642", "prot = 8642", ["console.prot", "unknown"]),
        ("lumiwatch.toml", "port = 8642", 'port = "many"', ["console.port", "integer"]),
        ("lumiwatch.toml", 'site = "Example control room"', "", ["key site", "missing"]),
        ("lumiwatch.toml", 'host = "127.0.0.1"', 'host = "0.0.0.0"', ["loopback", "allow_remote"]),
        ("lumiwatch.toml", "[kafka]", "[kafka", ["not valid TOML", "line"]),
        (
            "models/anomaly/model.toml",
            "approvals_needed = 1",
            "approvals_needed = 2",
            ["policy", "approvers"],
        ),
        ("models/anomaly/model.toml", '"bias", ', '"biases", ', ["policy.strategies", "bias"]),
        ("models/anomaly/model.toml", 'name = "anomaly"', 'name = "other"', ["folder", "anomaly"]),
        (
            "models/anomaly/model.toml",
            'approvers = ["local"]',
            'approvers = ["eve"]',
            ["eve", "operators.eve"],
        ),
        ("models/anomaly/contract.toml", "lsb", "lbs", ["contract.toml"]),
        (
            "models/anomaly/model.toml",
            "[watch]",
            '[watch]\ninterpolate = "pileup"',
            ["watch.interpolate", "name another condition"],
        ),
        (
            "models/anomaly/model.toml",
            "[watch]",
            '[watch]\ninterpolate = "Bunches"',
            ["watch.interpolate", "pattern"],
        ),
    ],
)
def test_a_mistake_is_named_by_file_and_key_in_one_line(
    site_folder: Path, file: str, old: str, new: str, words: list[str]
):
    path = site_folder / file
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))

    with pytest.raises(SettingsError) as caught:
        load_site(site_folder)

    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_missing_site_says_where_an_example_is(tmp_path: Path):
    with pytest.raises(SettingsError, match="deploy/site"):
        load_site(tmp_path / "nowhere")


def test_a_bot_needs_all_of_its_keys(site_folder: Path):
    with pytest.raises(SettingsError, match="mattermost"):
        load_site(site_folder, overrides={"mattermost": {"url": "https://chat"}})


SECURE_KAFKA = """[kafka]
bootstrap = "kafka.example:9093"
protocol = "SASL_SSL"
ca_file = "secrets/ca.pem"
mechanism = "SCRAM-SHA-512"
username = "lumiwatch"
password_file = "secrets/kafka-password"
"""


def _with_kafka(site_folder: Path, section: str) -> Path:
    file = site_folder / "lumiwatch.toml"
    before, after = file.read_text().split("[kafka]", 1)
    file.write_text(before + section + "\n[" + after.split("\n[", 1)[1])
    return site_folder


def test_a_kafka_with_tls_and_password_is_named_by_its_files(site_folder: Path):
    site = load_site(_with_kafka(site_folder, SECURE_KAFKA))

    security = site.kafka_security
    assert security.ca_file == site_folder / "secrets" / "ca.pem"
    assert security.password_file == site_folder / "secrets" / "kafka-password"
    assert security.describe() == (
        f"SASL_SSL, SCRAM-SHA-512 as lumiwatch, CA {site_folder / 'secrets' / 'ca.pem'}"
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('username = "lumiwatch"\n', "", "needs mechanism, username and password_file"),
        ('protocol = "SASL_SSL"', 'protocol = "SSL"', "uses no password"),
        ('protocol = "SASL_SSL"', 'protocol = "SASL_PLAINTEXT"', "uses no certificates"),
        ('bootstrap = "kafka.example:9093"\n', "", "set bootstrap too"),
        ("mechanism", 'cert_file = "c.pem"\nmechanism', "belong together"),
        ("mechanism", 'password = "x"\nmechanism', "kafka.password"),
    ],
)
def test_kafka_keys_that_contradict_each_other_are_named(site_folder: Path, old: str, new: str, said: str):
    assert old in SECURE_KAFKA
    with pytest.raises(SettingsError, match=said):
        load_site(_with_kafka(site_folder, SECURE_KAFKA.replace(old, new, 1)))


@pytest.mark.parametrize("board", ["emulated", "crate-7:50001", "tcp://10.0.0.7:50001", "udp://[::1]:50001"])
def test_a_board_is_emulated_or_an_address_of_ipbus(site_folder: Path, board: str):
    file = site_folder / "models" / "anomaly" / "model.toml"
    file.write_text(file.read_text().replace('board = "emulated"', f'board = "{board}"'))

    assert load_site(site_folder).models["anomaly"].settings.firmware.board == board


@pytest.mark.parametrize(
    "board", ["", "crate-7", "crate-7:0", "crate-7:70000", "http://crate-7:80", "udp://", "a b:1"]
)
def test_a_board_at_no_address_is_refused_with_the_forms_there_are(site_folder: Path, board: str):
    file = site_folder / "models" / "anomaly" / "model.toml"
    file.write_text(file.read_text().replace('board = "emulated"', f'board = "{board}"'))

    with pytest.raises(SettingsError, match=r"firmware\.board.*udp://host:port.*or emulated"):
        load_site(site_folder)


def test_scrubbing_is_on_and_repairs_unless_it_is_said(site_folder: Path):
    file = site_folder / "models" / "anomaly" / "model.toml"
    given = file.read_text()
    file.write_text("\n".join(line for line in given.splitlines() if not line.startswith("scrub_")))
    firmware = load_site(site_folder).models["anomaly"].settings.firmware
    assert (firmware.scrub_interval_s, firmware.scrub_repair) == (60.0, True)

    file.write_text(given.replace("scrub_interval_s = 60", "scrub_interval_s = -1"))
    with pytest.raises(SettingsError, match=r"firmware\.scrub_interval_s"):
        load_site(site_folder)
