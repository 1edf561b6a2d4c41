import io
import stat
import zipfile

import pytest

from hw.archive import unzip_bytes, write_atomically, zip_bytes
from hw.errors import PackageMalformed

LIMITS = {"maximum_bytes": 1000, "maximum_files": 3, "what": "the file"}


def test_equal_content_gives_equal_bytes_in_any_order():
    assert zip_bytes({"a": b"1", "b": b"2"}) == zip_bytes({"b": b"2", "a": b"1"})


def test_what_goes_in_comes_out():
    files = {"a": b"1", "folder/b": b""}
    assert unzip_bytes(zip_bytes(files), **LIMITS) == files


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "a\\b", "./a", "a//b", "folder/"])
def test_a_name_that_leaves_the_archive_is_refused(name):
    with pytest.raises(PackageMalformed, match="unsafe file name"):
        unzip_bytes(zip_bytes({name: b""}), **LIMITS)


def test_a_bomb_is_refused_without_unpacking_it():
    with pytest.raises(PackageMalformed, match="more than 1000 bytes"):
        unzip_bytes(zip_bytes({"a": bytes(50_000_000)}), **LIMITS)


def test_too_many_files_are_refused():
    with pytest.raises(PackageMalformed, match="4 files"):
        unzip_bytes(zip_bytes(dict.fromkeys("abcd", b"")), **LIMITS)


def test_a_name_that_appears_twice_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"2")
    with pytest.raises(PackageMalformed, match="twice"):
        unzip_bytes(buffer.getvalue(), **LIMITS)


def test_every_truncation_is_noticed():
    content = zip_bytes({"a": b"some text", "b": b"more text"})
    for length in range(len(content)):
        with pytest.raises(PackageMalformed):
            unzip_bytes(content[:length], **LIMITS)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old", mode=0o600)
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")
    assert path.read_bytes() == b"old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
