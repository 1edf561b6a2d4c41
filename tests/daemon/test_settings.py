from pathlib import Path

import pytest

from daemon.errors import SettingsError
from daemon.settings import load_site


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
