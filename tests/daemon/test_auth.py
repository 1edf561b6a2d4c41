from datetime import timedelta
from pathlib import Path

import pytest

from daemon.auth import Authenticator, Operator, default_token_file, load_authenticator
from daemon.errors import NotAuthenticated, SettingsError
from daemon.settings import Site, load_site
from tests.support.daemon import HandClock


@pytest.fixture
def authenticator(site: Site) -> Authenticator:
    return load_authenticator(site)


def token_file(path: Path, token: str = "t" * 32, mode: int = 0o600) -> Path:
    path.write_text(token)
    path.chmod(mode)
    return path


def site_with_operators(folder: Path, **files: Path) -> Site:
    operators = {name: {"token_file": str(file)} for name, file in files.items()}
    model = folder / "models/anomaly/model.toml"
    model.write_text(
        model.read_text().replace('approvers = ["local"]', f'approvers = ["{next(iter(files))}"]')
    )
    return load_site(folder, overrides={"operators": operators})


def test_without_operators_one_is_made_with_a_private_token(site: Site, authenticator: Authenticator):
    file = default_token_file(site)

    assert file.stat().st_mode & 0o777 == 0o600
    assert authenticator.operator_of_token(file.read_text().strip()) == Operator("local")


def test_the_token_stays_the_same_at_the_next_start(site: Site, authenticator: Authenticator):
    token = default_token_file(site).read_text()

    assert load_authenticator(site).operator_of_token(token.strip()).name == "local"


def test_a_wrong_token_is_nobodys(authenticator: Authenticator):
    with pytest.raises(NotAuthenticated):
        authenticator.operator_of_token("guess")


def test_a_session_names_its_operator_until_it_ends(authenticator: Authenticator, clock: HandClock):
    cookie = authenticator.new_session(Operator("local"), now=clock())

    assert authenticator.operator_of_session(cookie, now=clock()).name == "local"
    clock.move(timedelta(hours=12).total_seconds())
    with pytest.raises(NotAuthenticated, match="ended"):
        authenticator.operator_of_session(cookie, now=clock())


@pytest.mark.parametrize("cookie", ["", "x", "local.9999999999.ab.", "local.9999999999.ab.00", "....", "é"])
def test_a_forged_session_is_refused(authenticator: Authenticator, clock: HandClock, cookie: str):
    with pytest.raises(NotAuthenticated):
        authenticator.operator_of_session(cookie, now=clock())


def test_a_session_cannot_be_prolonged(authenticator: Authenticator, clock: HandClock):
    name, ends, nonce, signature = authenticator.new_session(Operator("local"), now=clock()).split(".")

    with pytest.raises(NotAuthenticated):
        authenticator.operator_of_session(f"{name}.{int(ends) + 1}.{nonce}.{signature}", now=clock())


def test_configured_operators_replace_the_default(site_folder: Path, tmp_path: Path):
    site = site_with_operators(site_folder, ada=token_file(tmp_path / "ada"))

    authenticator = load_authenticator(site)

    assert [operator.name for operator in authenticator.operators] == ["ada"]
    assert not default_token_file(site).exists()


@pytest.mark.parametrize(
    ("token", "mode", "words"),
    [("t" * 32, 0o644, "chmod 600"), ("short", 0o600, "shorter"), ("t" * 32, None, "cannot be read")],
)
def test_a_bad_token_file_is_refused_with_the_cure(
    site_folder: Path, tmp_path: Path, token: str, mode: int | None, words: str
):
    file = tmp_path / "ada"
    if mode is not None:
        token_file(file, token, mode)

    with pytest.raises(SettingsError, match=words):
        load_authenticator(site_with_operators(site_folder, ada=file))


def test_two_operators_cannot_share_a_token(site_folder: Path, tmp_path: Path):
    site = site_with_operators(site_folder, ada=token_file(tmp_path / "a"), max=token_file(tmp_path / "m"))

    with pytest.raises(SettingsError, match="share"):
        load_authenticator(site)
