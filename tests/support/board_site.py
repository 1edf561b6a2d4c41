"""A site whose board is real and cheap: plain C++ firmware in partitions, on a real device in this process.

Registers, locks, flash, golden vectors and signatures are those of any emulated board; the bench inside the
packages is a fake. A bit flips when a test says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from daemon.site.keys import ensure_keys
from daemon.site.settings import Site, load_site
from daemon.store.database import open_database, transaction
from hw.fixed_point import FixedFormat
from hw.layout import Layout
from hw.manifest import ToolchainStamp
from hw.package import Package, write_package
from hw.records import record_package
from hw.report import BenchReport, StageReport
from hw.signing import load_signing_key
from tests.support.daemon import copy_site
from tests.support.fragile import FragileBoard
from tests.support.hw import SignedPackages, random_inputs, random_model
from tests.support.plain_images import build_images

MODEL = "anomaly"


def make_board_site(folder: Path) -> tuple[Path, SignedPackages]:
    """Copy the example site and build its packages, once for many tests; takes a second.

    `first` and `second` differ in weights, `other` in the second of two partitions.
    """
    site = load_site(copy_site(folder))
    ensure_keys(site)
    site.packages_dir.mkdir(parents=True)
    key = load_signing_key(site.signing_key_file)
    contract = site.models[MODEL].contract
    shape = {"contract_hash": contract.hash, "input_names": contract.input_names, "threshold": 300.0}

    def package(version: str, model) -> Package:
        model = replace(model, layout=Layout("plain", cuts=(1,)))
        return write_package(
            folder / f"{version}.lwpkg",
            model=model,
            images=build_images(folder, model),
            golden_inputs=random_inputs(100, model.n_inputs),
            bench=_fake_bench(model),
            toolchain=ToolchainStamp(name="plain", version="1"),
            version=version,
            key=key,
        )

    first = random_model((contract.n_inputs, 4, 3, 2), seed=1, **shape)
    finer = replace(first.layers[1], result_format=FixedFormat.parse("fixed<20,8,RND,SAT>"))
    packages = SignedPackages(
        folder,
        key,
        site.signing_key_file,
        next(site.trusted_keys_dir.glob("*.pub")),
        package("first", first),
        package("second", random_model((contract.n_inputs, 4, 3, 2), seed=2, **shape)),
        package("other", replace(first, layers=(first.layers[0], finer, first.layers[2]))),
    )
    path = site.packages_dir / f"{packages.first.id}.lwpkg"
    path.write_bytes(packages.first.content)
    engine = open_database(site.database_url)
    with transaction(engine) as session:
        record_package(session, packages.first, path, now=datetime.now(UTC))
    engine.dispose()
    return site.folder, packages


@dataclass
class SiteBoard:
    """The board of the site's model, where the site finds it."""

    site: Site
    packages: SignedPackages
    board: FragileBoard

    def announce(self, address: str) -> None:
        """Say where the board is."""
        file = self.site.board_file(MODEL)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"address": address}))

    def flip(self, segment: str, offset: int, *bits: int, active: bool = True) -> None:
        """Flip bits of one word of the active bank, or of the other one."""
        fabric = self.board.device.device._fabric
        index = fabric.model.segment(segment).start + offset
        bank = fabric.banks[fabric.active if active else 1 - fabric.active]
        for bit in bits:
            bank.view(np.uint32)[index] ^= np.uint32(1 << bit)

    def right(self) -> bool:
        """Whether the active bank is that of the package that the board says it runs, bit for bit."""
        fabric = self.board.device.device._fabric
        package_id = fabric.identities[fabric.active][0]
        (package,) = [
            one
            for one in (self.packages.first, self.packages.second, self.packages.other)
            if one.id == package_id
        ]
        return bool(np.array_equal(fabric.banks[fabric.active], package.model.memory()))

    @property
    def runs(self) -> str:
        """Id of the package that the board says it runs."""
        fabric = self.board.device.device._fabric
        return fabric.identities[fabric.active][0]


def _fake_bench(model) -> BenchReport:
    stages = [
        StageReport(
            name=name,
            binding=True,
            events=100,
            mismatching_events=0,
            mismatching_bits=0,
            largest_error_lsb=0.0,
            events_per_s=1.0,
        )
        for name in ("emulator", "plain C-sim")
    ]
    return BenchReport(
        model_name=model.name,
        structure_hash=model.structure_hash,
        weights_hash=model.weights_hash,
        inputs_hash="0" * 64,
        stages=tuple(stages),
    )
