"""A front that gives the embedded broker, which has neither, TLS and SASL as Kafka does them.

The TLS is real, and so are the messages of SASL (Kafka's SaslHandshake and SaslAuthenticate) and the server's
half of SCRAM (RFC 5802); behind it is the real broker. Also makes the certificates.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ipaddress
import os
import socket
import ssl
import struct
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "127.0.0.1"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
API_VERSIONS, HANDSHAKE, AUTHENTICATE = 18, 17, 36
FAILED = 58
ITERATIONS = 4096


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate, its key, and the authority that vouches for it."""

    ca: Path
    cert: Path
    key: Path


def make_certificate(folder, name):
    """Make an authority and a certificate for loopback, as the server's and as a client's."""
    now = datetime.now(UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} CA")])

    def builder(subject, public_key):
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(days=1))
        )

    no = {"content_commitment": False, "key_encipherment": False, "data_encipherment": False}
    no |= {"digital_signature": False, "key_agreement": False, "encipher_only": False, "decipher_only": False}
    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**no, key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    files = Certificate(folder / f"{name}-ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
    pem = serialization.Encoding.PEM
    files.ca.write_bytes(ca.public_bytes(pem))
    files.cert.write_bytes(certificate.public_bytes(pem))
    files.key.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


class SecureFront:
    """Listens on loopback and hands on, to a broker that advertises its port, what clients may send.

    Parameters
    ----------
    certificate
        Shown to clients; None: no TLS.
    client_ca
        Vouches for clients' certificates; None: they need none.
    users
        User -> password; None: no SASL.
    """

    def __init__(self, certificate=None, client_ca=None, users=None):
        self._context = None
        if certificate is not None:
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._context.load_cert_chain(certificate.cert, certificate.key)
            if client_ca is not None:
                self._context.load_verify_locations(client_ca)
                self._context.verify_mode = ssl.CERT_REQUIRED
        self._users = users
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self.upstream_port = None
        self.mechanisms_used = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="secure-front", daemon=True)
        self._tasks = set()

    @property
    def bootstrap(self):
        return f"{HOST}:{self.port}"

    def __enter__(self):
        self._thread.start()
        self._server = self._run(
            asyncio.start_server(self._serve, sock=self._listener, ssl=self._context, limit=1 << 22)
        )
        # clients that do not trust the certificate are what tests are about
        self._loop.set_exception_handler(lambda _loop, _context: None)
        return self

    def __exit__(self, *_):
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _stop(self):
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        upstream = None
        try:
            upstream_reader, upstream = await asyncio.open_connection(HOST, self.upstream_port)
            if self._users is None or await self._log_in(reader, writer, upstream_reader, upstream):
                await asyncio.gather(_copy(reader, upstream), _copy(upstream_reader, writer))
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(asyncio.current_task())
            for each in (writer, upstream):
                if each is not None:
                    each.close()

    async def _log_in(self, reader, writer, upstream_reader, upstream):
        """Answer until the client has shown its password; only what version to speak passes before."""
        exchange = None
        while True:
            frame = await _frame(reader)
            key, version, correlation, length = struct.unpack_from(">hhih", frame)
            body = frame[10 + max(0, length) :]
            if key == API_VERSIONS:
                upstream.write(struct.pack(">i", len(frame)) + frame)
                answer = await _frame(upstream_reader)
            elif key == HANDSHAKE:
                exchange = self._exchange(body[2:].decode())
                names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in MECHANISMS)
                answer = struct.pack(">ihi", correlation, 0, len(MECHANISMS)) + names
            elif key == AUTHENTICATE and exchange is not None:
                token, done = exchange(_token(body, version))
                answer = struct.pack(">i", correlation) + _authenticated(version, token)
            else:
                return False
            writer.write(struct.pack(">i", len(answer)) + answer)
            await writer.drain()
            if key == AUTHENTICATE and (token is None or done):
                return token is not None

    def _exchange(self, mechanism):
        self.mechanisms_used.add(mechanism)
        if mechanism == "PLAIN":
            return self._plain
        return ScramServer(self._users, mechanism.removeprefix("SCRAM-").replace("-", "").lower()).take

    def _plain(self, token):
        _, user, password = token.decode().split("\0")
        return (b"" if self._users.get(user) == password else None), True


class ScramServer:
    """The server's half of SCRAM (RFC 5802), without channel binding."""

    def __init__(self, users, digest):
        self._users = users
        self._digest = digest
        self._first = None

    def take(self, message):
        """Return the answer, None when the client is refused, and whether that was all."""
        if self._first is None:
            self._first = message.decode().removeprefix("n,,")
            fields = dict(part.split("=", 1) for part in self._first.split(","))
            self._password = self._users.get(fields["n"])
            self._salt = os.urandom(16)
            self._nonce = fields["r"] + base64.b64encode(os.urandom(12)).decode()
            self._answer = f"r={self._nonce},s={base64.b64encode(self._salt).decode()},i={ITERATIONS}"
            return self._answer.encode(), False
        last, proof = message.decode().rsplit(",p=", 1)
        if self._password is None or f"r={self._nonce}" not in last.split(","):
            return None, True
        salted = hashlib.pbkdf2_hmac(self._digest, self._password.encode(), self._salt, ITERATIONS)
        client_key = self._mac(salted, b"Client Key")
        signed = f"{self._first},{self._answer},{last}".encode()
        signature = self._mac(hashlib.new(self._digest, client_key).digest(), signed)
        expected = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        if not hmac.compare_digest(expected, base64.b64decode(proof)):
            return None, True
        server = self._mac(self._mac(salted, b"Server Key"), signed)
        return b"v=" + base64.b64encode(server), True

    def _mac(self, key, content):
        return hmac.new(key, content, self._digest).digest()


def _token(body, version):
    if version < 2:
        return body[4:]
    length, place = 0, 1  # after the header's tagged fields: a compact length
    for shift in range(0, 35, 7):
        byte = body[place]
        place += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return body[place : place + length - 1]


def _authenticated(version, token):
    error, text, token = (FAILED, b"wrong password", b"") if token is None else (0, b"", token)
    if version < 2:
        answer = struct.pack(">hh", error, len(text)) + text + struct.pack(">i", len(token)) + token
        return answer + (struct.pack(">q", 0) if version == 1 else b"")
    return b"\0" + struct.pack(">h", error) + _compact(text) + _compact(token) + struct.pack(">q", 0) + b"\0"


def _compact(content):
    length, out = len(content) + 1, bytearray()
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*out, length]) + content


async def _frame(reader):
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


async def _copy(reader, writer):
    with contextlib.suppress(OSError, ssl.SSLError):
        while content := await reader.read(1 << 18):
            writer.write(content)
            await writer.drain()
    writer.close()
