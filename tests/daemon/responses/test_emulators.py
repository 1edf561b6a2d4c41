"""The site's packages answer for the stream, as soon as they are loaded and only if they are trusted."""

import shutil

import numpy as np
import pytest

from daemon.responses.emulators import LOOK_AGAIN_S, SiteEmulators
from daemon.site.settings import load_site
from daemon.store.database import open_database
from hw.emulator import Emulator
from streams.events.batch import Batch
from streams.integrity import IntegrityCheck
from tests.support.daemon import copy_site
from tests.support.hw import build_packages, random_inputs


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return build_packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def site(tmp_path, packages):
    """Return a site that trusts the packages' signer and has none of them yet."""
    site = load_site(copy_site(tmp_path))
    site.packages_dir.mkdir(parents=True)
    site.trusted_keys_dir.mkdir(parents=True)
    packages.key.trusted.write(site.trusted_keys_dir / "builder.pub")
    return site


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def emulators(site, now):
    engine = open_database(site.database_url)
    yield SiteEmulators(site, engine, clock=lambda: now[0])
    engine.dispose()


def _install(site, package):
    shutil.copy(package.path, site.packages_dir / f"{package.id}.lwpkg")


def _asked(emulators, package, inputs):
    """Ask until the answer is final."""
    emulators.outputs(package, inputs)
    emulators.wait_loaded()
    return emulators.outputs(package, inputs)


def test_a_package_answers_as_its_emulator_once_it_is_loaded(site, emulators, packages):
    package, inputs = packages.first, random_inputs(50, 57)
    _install(site, package)
    # the stream is never kept waiting: the first question is answered at once, with nothing
    assert emulators.outputs(package.id, inputs) is None
    emulators.wait_loaded()
    answer = emulators.outputs(package.id, inputs)
    scores = Emulator(package.model).scores(inputs)
    assert np.array_equal(answer.score, scores)
    assert np.array_equal(answer.accept, scores > package.model.score_stage.threshold_raw)


def test_flipped_outputs_of_a_package_are_counted_exactly(site, emulators, packages):
    # given a batch of 5000 events in which the board flipped one bit of every 500th score
    package, inputs = packages.first, random_inputs(5000, 57)
    _install(site, package)
    score = Emulator(package.model).scores(inputs)
    accept = score > package.model.score_stage.threshold_raw
    assert _asked(emulators, package.id, inputs[:1]) is not None
    check = IntegrityCheck(emulators, prescale=1)
    good = _batch(package, inputs, score, accept)
    score = score.copy()
    score[::500] ^= 1
    assert check.check(good) == (5000, 0)
    assert check.check(_batch(package, inputs, score, accept)) == (5000, 10)
    assert check.failures == 0


@pytest.mark.parametrize("name", ["f" * 64, "../../../etc/passwd", "replay", ""])
def test_a_package_that_the_site_does_not_have_is_not_checked(emulators, name):
    assert _asked(emulators, name, random_inputs(5, 57)) is None


def test_a_package_that_nobody_trusts_is_not_checked(site, emulators, packages, caplog):
    _install(site, packages.first)
    (site.trusted_keys_dir / "builder.pub").unlink()
    assert _asked(emulators, packages.first.id, random_inputs(5, 57)) is None
    assert "not signed by a trusted key" in caplog.text


def test_a_file_under_another_packages_name_is_not_used(site, emulators, packages, caplog):
    shutil.copy(packages.first.path, site.packages_dir / f"{'e' * 64}.lwpkg")
    assert _asked(emulators, "e" * 64, random_inputs(5, 57)) is None
    assert packages.first.short_id in caplog.text


def test_events_with_other_inputs_than_the_package_takes_are_not_checked(site, emulators, packages):
    _install(site, packages.first)
    assert _asked(emulators, packages.first.id, random_inputs(5, 3)) is None


def test_a_package_that_comes_later_is_found_later(site, emulators, packages, now):
    inputs = random_inputs(5, 57)
    assert _asked(emulators, packages.first.id, inputs) is None
    _install(site, packages.first)
    assert _asked(emulators, packages.first.id, inputs) is None
    now[0] += LOOK_AGAIN_S + 1
    assert _asked(emulators, packages.first.id, inputs) is not None


def test_made_up_packages_do_not_grow_the_memory(emulators):
    for number in range(200):
        emulators.outputs(f"{number:064x}", random_inputs(1, 57))
    emulators.wait_loaded()
    assert len(emulators._known) <= 16


def _batch(package, inputs, score, accept):
    return Batch(
        model="anomaly",
        contract_name="anomaly",
        contract_version=1,
        contract_hash="c" * 64,
        run=1,
        lumisection=1,
        source="replay",
        sequence=0,
        package=package.id,
        simulated=True,
        inputs=inputs,
        score=score.astype(np.int32),
        accept=accept,
        input_names=tuple(f"x{number}" for number in range(57)),
    )
