import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from hw.archive import npy_bytes, unzip_bytes, zip_bytes
from hw.emulator import Emulator
from hw.errors import PackageError, PackageMalformed, PackageTampered, SignatureUntrusted
from hw.manifest import Lineage, ToolchainStamp
from hw.package import open_package, read_package, write_package
from hw.signing import create_signing_key
from tests.support.hw import random_inputs, random_model


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return create_signing_key(tmp_path_factory.mktemp("keys") / "builder.key")


def write(path, key, **changes):
    fields = {
        "model": random_model(),
        "images": {"p0": b"image"},
        "golden_inputs": random_inputs(20, 6),
        "bench": None,
        "toolchain": ToolchainStamp(name="hls4ml", version="1.3.0"),
        "version": "1",
        "key": key,
        "lineage": Lineage(datasets=("d1",), parent_package="p0", training="t1"),
        "sources": {"top.cpp": b"int x;"},
    }
    return write_package(path, **{**fields, **changes})


def files_of(package):
    return unzip_bytes(package.content, maximum_bytes=1 << 20, maximum_files=100, what="test")


def sign_again(files, key, **changes):
    """Sign a manifest with changed fields, as an insider would who owns the key."""
    manifest = {**json.loads(files["manifest.json"]), **changes}
    content = json.dumps(manifest).encode()
    return zip_bytes({**files, "manifest.json": content, "manifest.sig": key.sign(content)})


def test_a_package_survives_its_file(tmp_path, key):
    written = write(tmp_path / "a.lwpkg", key, created=datetime(2026, 1, 1, tzinfo=UTC))
    package = open_package(tmp_path / "a.lwpkg", (key.trusted,))
    assert package.id == written.id
    assert package.signed_by == "builder"
    assert package.model.weights_hash == package.manifest.weights_hash == random_model().weights_hash
    assert (package.golden_scores == Emulator(random_model()).scores(random_inputs(20, 6))).all()
    assert package.images == {"p0": b"image"}
    assert package.sources == {"top.cpp": b"int x;"}
    assert package.manifest.lineage.parent_package == "p0"
    assert package.manifest.precision["dense1.weight"] == "fixed<16,4,RND,SAT>"


def test_equal_content_gives_equal_bytes(tmp_path, key):
    assert write(tmp_path / "a", key).content == write(tmp_path / "b", key).content
    assert write(tmp_path / "c", key, version="2").id != write(tmp_path / "a", key).id


@pytest.mark.parametrize(
    "name",
    ["model.npz", "memory.bin", "images/p0.so", "golden/inputs.npy", "golden/scores.npy", "firmware/top.cpp"],
)
def test_a_change_in_any_file_is_noticed(name, tmp_path, key):
    files = files_of(write(tmp_path / "a", key))
    files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
    with pytest.raises(PackageTampered, match=name):
        read_package(zip_bytes(files), (key.trusted,))


def test_a_change_of_manifest_or_signature_is_noticed(tmp_path, key):
    files = files_of(write(tmp_path / "a", key))
    for name in ("manifest.json", "manifest.sig"):
        changed = files[name].replace(b'"version": "1"', b'"version": "2"') if "json" in name else bytes(64)
        assert changed != files[name]
        with pytest.raises(SignatureUntrusted, match="not signed by a trusted key"):
            read_package(zip_bytes({**files, name: changed}), (key.trusted,))
    with pytest.raises(SignatureUntrusted):
        read_package(zip_bytes({**files, "manifest.sig": b"short"}), (key.trusted,))


def test_a_key_that_is_not_trusted_is_refused(tmp_path, key):
    stranger = create_signing_key(tmp_path / "stranger.key")
    package = write(tmp_path / "a", stranger)
    with pytest.raises(SignatureUntrusted, match="trusted: builder"):
        read_package(package.content, (key.trusted,))
    with pytest.raises(SignatureUntrusted, match="trusted: none"):
        read_package(package.content, ())
    assert read_package(package.content, (key.trusted, stranger.trusted)).signed_by == "stranger"


def test_every_truncation_is_noticed(tmp_path, key):
    content = write(tmp_path / "a", key).content
    for length in range(0, len(content), 97):
        with pytest.raises(PackageMalformed):
            read_package(content[:length], (key.trusted,))


def test_files_nobody_signed_and_missing_files_are_refused(tmp_path, key):
    files = files_of(write(tmp_path / "a", key))
    with pytest.raises(PackageTampered, match=r"nobody signed \(extra\)"):
        read_package(zip_bytes({**files, "extra": b""}), (key.trusted,))
    for name in ("images/p0.so", "manifest.json", "manifest.sig"):
        rest = {other: content for other, content in files.items() if other != name}
        with pytest.raises(PackageMalformed, match=r"lacks|has no manifest"):
            read_package(zip_bytes(rest), (key.trusted,))


@pytest.mark.parametrize("name", ["../../home/operator/.bashrc", "/etc/cron.d/x", "firmware/../../x"])
def test_a_path_out_of_the_package_is_refused_even_when_signed(name, tmp_path, key):
    files = files_of(write(tmp_path / "a", key))
    with pytest.raises(PackageMalformed, match="unsafe file name"):
        read_package(zip_bytes({**files, name: b"evil"}), (key.trusted,))
    with pytest.raises(PackageMalformed, match="unsafe file name"):
        write(tmp_path / "b", key, sources={f"../{name}": b"evil"})
    assert not (tmp_path / "b").exists()


def test_a_signed_contradiction_is_refused(tmp_path, key):
    files = files_of(write(tmp_path / "a", key))
    with pytest.raises(PackageMalformed, match="contradict"):
        read_package(sign_again(files, key, weights_hash="0" * 64), (key.trusted,))
    with pytest.raises(PackageMalformed, match="golden vectors"):
        read_package(sign_again(files, key, golden_count=19), (key.trusted,))
    with pytest.raises(PackageMalformed, match="manifest"):
        read_package(sign_again(files, key, surprise=1), (key.trusted,))
    with pytest.raises(PackageMalformed, match="format"):
        read_package(sign_again(files, key, format=3), (key.trusted,))


def test_a_missing_file_and_an_unwritable_folder_are_named(tmp_path, key):
    with pytest.raises(PackageError, match="cannot be read"):
        open_package(tmp_path / "nothing.lwpkg", (key.trusted,))
    with pytest.raises(PackageError, match="cannot be written"):
        write(tmp_path / "no folder" / "a.lwpkg", key)


def test_golden_scores_always_come_from_the_model(tmp_path, key):
    model = random_model()
    changed = replace(model, score_stage=replace(model.score_stage, threshold_raw=1))
    inputs = np.zeros((3, 6), np.int16)
    package = write(tmp_path / "a", key, model=changed, golden_inputs=inputs)
    assert npy_bytes(package.golden_scores) == npy_bytes(Emulator(changed).scores(inputs))
