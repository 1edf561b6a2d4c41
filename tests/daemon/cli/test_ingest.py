"""A model that was trained elsewhere becomes a package whose lineage ends at its file."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from daemon.cli.ingest import ingest
from daemon.journal import lineage
from daemon.site.keys import site_trusted_keys
from daemon.site.settings import load_site
from daemon.store.database import open_database
from hw.emulator import Emulator
from hw.errors import ModelError
from hw.package import open_package
from tests.support.qonnx import GraphMaker, execute

N_IN = 57


@pytest.fixture
def run():
    """Run the command alone; its exceptions come out as they are."""
    app = typer.Typer()
    app.command()(ingest)

    def call(*arguments):
        return CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)

    return call


@pytest.fixture
def graph():
    rng = np.random.default_rng(1)
    maker = GraphMaker(N_IN)
    maker.quant(10, 2.0**-4)
    maker.dense(rng.normal(0, 0.5, (N_IN, 2)))
    maker.quant(12, 2.0**-4)
    return maker


@pytest.fixture
def scaling(tmp_path):
    file = tmp_path / "scaling.json"
    file.write_text(json.dumps({"offset": [1.0] * N_IN, "scale": 2.0**-6}))
    return file


def test_a_package_is_built_and_its_lineage_ends_at_the_file(run, site, graph, scaling, tmp_path):
    model_file = site / "models" / "anomaly" / "model.toml"
    # the quickest to compile
    model_file.write_text(model_file.read_text().replace('"lumiwatch-rtl"', '"hls4ml"'))
    file = tmp_path / "net.onnx"
    file.write_bytes(graph.content())
    options = ["--score", "logit", "--output", 1, "--threshold", 0.5, "--site", site, "--json"]
    said = json.loads(run(file, "--model", "anomaly", "--scaling", scaling, *options).stdout)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    loaded = load_site(site)
    package = open_package(Path(said["path"]), site_trusted_keys(loaded))
    assert [stage["mismatching_events"] for stage in said["bench"]["stages"]] == [0, 0]
    assert said["file_sha256"] == sha256
    assert package.manifest.lineage.training == f"ingested from {sha256}"
    found = lineage.trace(open_database(loaded.database_url), package.id)
    assert [(node.kind, node.id) for node in found.nodes if node.depth] == [("model_file", sha256)]
    codes = np.random.default_rng(2).integers(-300, 300, (2000, N_IN), dtype=np.int16)
    expected = execute(graph.model(), (codes - 1.0) * 2.0**-6)[:, 1]
    _, accepts = Emulator(package.model).run(codes)
    np.testing.assert_array_equal(accepts, expected > 0.5)


def test_what_cannot_be_ingested_leaves_nothing_behind(run, site, scaling, tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(b"no graph")
    options = ["--model", "anomaly", "--site", site, "--scaling"]
    with pytest.raises(ModelError, match="no ONNX file"):
        run(file, *options, scaling)
    with pytest.raises(ModelError, match="cannot be read"):
        run(tmp_path / "absent.onnx", *options, scaling)
    scaling.write_text("[1, 2]")
    with pytest.raises(ModelError, match=r"scaling\.json: write"):
        run(file, *options, scaling)
    assert not (site / "state" / "jobs").exists()
