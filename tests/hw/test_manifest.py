import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from hw.manifest import Manifest, manifest_schema

DOCS = Path(__file__).parents[2] / "docs"


def test_the_published_schema_is_that_of_the_code():
    assert json.loads((DOCS / "package-manifest.schema.json").read_text()) == manifest_schema()


def test_the_page_explains_every_field():
    page = (DOCS / "package-format.md").read_text()
    assert [name for name in Manifest.model_fields if f"`{name}`" not in page] == []


def test_a_package_opens_with_standard_tools(packages, tmp_path):
    with zipfile.ZipFile(packages.first.path) as archive:
        archive.extractall(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    sums = "".join(f"{digest}  {name}\n" for name, digest in manifest["files"].items())
    command = ["sha256sum", "-c"]
    done = subprocess.run(command, input=sums, text=True, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    assert manifest["partitions"][0]["image"] in manifest["files"]


def test_openssl_verifies_the_signature(packages, tmp_path):
    with zipfile.ZipFile(packages.first.path) as archive:
        archive.extractall(tmp_path)
    key = str(packages.trusted_path)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin"]
    command += ["-in", "manifest.json", "-sigfile", "manifest.sig"]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert "Signature Verified Successfully" in done.stdout, done.stderr
