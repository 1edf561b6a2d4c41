"""Who is declared, and what happens when the file changes while the daemon runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from daemon.access.people import People, Person, default_token_file
from daemon.access.roles import Role
from daemon.errors import SettingsError
from daemon.site.settings import load_site
from tests.support.access import PEOPLE, declare


def _token_file(path: Path, token: str = "t" * 32, mode: int = 0o600) -> Path:
    path.write_text(token)
    path.chmod(mode)
    return path


def test_a_site_that_declares_nobody_has_local_who_may_do_everything(site_folder):
    site = load_site(site_folder)

    people = People(site)

    file = default_token_file(site)
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text().strip()
    assert people.everyone() == (Person("local", role=Role.ADMIN),)
    assert people.of_token_file(token) == people.find("local")
    assert people.of_token_file("guess") is None
    assert People(site).of_token_file(token) is not None, "the token changed at the next start"


def test_declared_people_have_their_roles_and_local_is_nobody(site):
    people = People(site)

    assert [(person.name, person.role) for person in people.everyone()] == [
        ("ada", Role.ADMIN),
        ("egon", Role.EXPERT),
        ("olga", Role.OPERATOR),
        ("vera", Role.VIEWER),
    ]
    assert people.find("local") is None
    assert not default_token_file(site).exists()


def test_a_person_without_a_role_is_an_operator(site_folder):
    declare(site_folder, people='[operators.ada]\n[operators.egon]\nrole = "expert"\n')

    assert People(load_site(site_folder)).find("ada").role is Role.OPERATOR


def test_who_is_lowered_or_removed_is_so_when_the_configuration_is_taken(site_folder, site):
    people = People(site)
    assert people.find("egon").role is Role.EXPERT

    declare(site_folder, people=PEOPLE.replace('role = "expert"', 'role = "viewer"'))
    take = people.prepare(load_site(site_folder))
    assert people.find("egon").role is Role.EXPERT, "the file alone changes nothing"
    take()
    assert people.find("egon").role is Role.VIEWER

    left = {name: one for name, one in site.settings.operators.items() if name != "egon"}
    people.prepare(replace(site, settings=site.settings.model_copy(update={"operators": left})))()
    assert people.find("egon") is None
    assert people.find("olga") is not None


def test_a_file_that_is_half_written_does_not_make_local_the_admin(site_folder, site):
    people = People(site)
    nobody = replace(site, settings=site.settings.model_copy(update={"operators": {}}))

    with pytest.raises(SettingsError, match="declares nobody any more; if you mean it, restart"):
        people.prepare(nobody)

    assert people.find("local") is None
    assert people.find("egon").role is Role.EXPERT
    assert not default_token_file(site).exists()


@pytest.mark.parametrize(
    ("token", "mode", "words"),
    [
        ("t" * 32, 0o644, "chmod 600"),
        ("short", 0o600, "shorter"),
        ("t" * 32, None, "cannot be read"),
    ],
)
def test_a_bad_token_file_is_refused_with_the_cure(site_folder, tmp_path, token, mode, words):
    file = tmp_path / "ada"
    if mode is not None:
        _token_file(file, token, mode)
    declare(site_folder, people=f'[operators.ada]\ntoken_file = "{file}"\n[operators.egon]\n')

    with pytest.raises(SettingsError, match=words):
        People(load_site(site_folder))


def test_two_people_share_neither_a_token_nor_a_subject(site_folder, tmp_path):
    files = [_token_file(tmp_path / name) for name in ("a", "b")]
    people = "".join(
        f'[operators.{name}]\ntoken_file = "{file}"\n'
        for name, file in zip(("ada", "egon"), files, strict=True)
    )
    declare(site_folder, people=people)
    with pytest.raises(SettingsError, match="share one token"):
        People(load_site(site_folder))

    declare(site_folder, people='[operators.ada]\nsubject = "x"\n[operators.egon]\nsubject = "x"\n')
    with pytest.raises(SettingsError, match="subject is also that of ada"):
        People(load_site(site_folder))


def test_an_identity_belongs_to_whoever_has_its_subject(site_folder):
    declare(site_folder, people='[operators.ada]\nsubject = "1a2b"\n[operators.egon]\n')
    people = People(load_site(site_folder))

    assert people.of_identity("1a2b", "anything").name == "ada"
    assert people.of_identity("9z", "egon").name == "egon"
    assert people.of_identity("9z", "ada") is None, "a name alone is not ada's subject"


def test_beyond_this_machine_nobody_listens_before_people_are_declared(site_folder):
    remote = {"console": {"allow_remote": True}}
    with pytest.raises(SettingsError, match=r"allow_remote needs people.*\[operators\.<name>\].*\[oidc\]"):
        load_site(site_folder, overrides=remote)

    oidc = {"issuer": "https://auth.example.org/realms/lab", "client_id": "lumiwatch"}
    assert load_site(site_folder, overrides={**remote, "oidc": oidc}).settings.console.allow_remote
    declare(site_folder)
    assert load_site(site_folder, overrides=remote).settings.console.allow_remote


@pytest.mark.parametrize("issuer", ["http://auth.example.org", "auth.example.org", "https://", "ftp://x"])
def test_a_provider_that_speaks_in_the_clear_is_refused(site_folder, issuer):
    with pytest.raises(SettingsError, match=r"oidc\.issuer.*no https address"):
        load_site(site_folder, overrides={"oidc": {"issuer": issuer, "client_id": "x"}})
