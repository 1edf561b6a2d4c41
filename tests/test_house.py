"""What holds for the repository as a whole."""

import importlib.util
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("daemon", "streams", "retrain", "hw")


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_this_distribution_alone_provides_the_import_package(package: str) -> None:
    # the names are common words: another distribution that brings one of them would shadow ours
    others = set(metadata.packages_distributions().get(package, [])) - {"lumiwatch"}
    found = importlib.util.find_spec(package)

    assert others == set()
    assert found is not None
    assert found.origin == str(ROOT / package / "__init__.py")


def test_the_lock_pins_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    }

    missing = [
        requirement
        for requirement in wanted
        if re.split(r"[<>=!\[]", requirement)[0].lower().replace("_", "-") not in pinned
    ]

    assert missing == []
    assert "torch==2.13.0\n" in (ROOT / "requirements.lock").read_text()


def test_nothing_unpickles_or_evaluates_what_comes_from_outside() -> None:
    forbidden = re.compile(
        r"allow_pickle\s*=\s*True|\bimport (?:pickle|dill|joblib)\b|(?<![.\w])(?:eval|exec)\("
    )

    offenders = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if forbidden.search(line)
    ]

    assert offenders == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT)) for path in sources() if not path.read_text().lstrip().startswith('"""')
    ]

    assert silent == []
