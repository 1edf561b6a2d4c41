import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from hw.errors import KeyFileError
from hw.signing import create_signing_key, load_signing_key, load_trusted_key, load_trusted_keys


def test_a_key_survives_its_files_and_only_its_owner_can_read_it(tmp_path):
    key = create_signing_key(tmp_path / "builder.key")
    key.trusted.write(tmp_path / "builder.pub")
    signature = load_signing_key(tmp_path / "builder.key").sign(b"content")
    (trusted,) = load_trusted_keys(tmp_path)
    assert trusted.verifies(signature, b"content")
    assert not trusted.verifies(signature, b"Content")
    assert trusted.name == "builder"
    assert trusted.fingerprint == key.trusted.fingerprint
    assert stat.S_IMODE((tmp_path / "builder.key").stat().st_mode) == 0o600


def test_a_private_key_others_can_read_is_refused(tmp_path):
    create_signing_key(tmp_path / "builder.key")
    (tmp_path / "builder.key").chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_signing_key(tmp_path / "builder.key")


def test_an_existing_key_is_never_overwritten(tmp_path):
    create_signing_key(tmp_path / "builder.key")
    with pytest.raises(KeyFileError, match="exists"):
        create_signing_key(tmp_path / "builder.key")


def test_what_is_no_ed25519_key_is_refused(tmp_path):
    path = tmp_path / "rsa.key"
    rsa = generate_private_key(65537, 2048)
    path.write_bytes(
        rsa.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="no Ed25519"):
        load_signing_key(path)
    path.write_text("hello")
    with pytest.raises(KeyFileError, match="no unencrypted PEM"):
        load_signing_key(path)
    with pytest.raises(KeyFileError, match="no PEM public key"):
        load_trusted_key(path)


def test_missing_keys_are_named(tmp_path):
    with pytest.raises(KeyFileError, match=r"nothing\.key"):
        load_signing_key(tmp_path / "nothing.key")
    with pytest.raises(KeyFileError, match=r"no \.pub file"):
        load_trusted_keys(tmp_path)
    with pytest.raises(KeyFileError, match="no folder"):
        load_trusted_keys(tmp_path / "nowhere")
