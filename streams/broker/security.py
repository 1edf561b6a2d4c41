"""How clients speak to Kafka: in the clear, over TLS, with a password. One model for every client.

Secrets stay in files: the model carries their paths, so that it may be written down. Refuses to know which
client asks, and for what.
"""

import socket
import ssl
import struct
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from streams.errors import BrokerError

CONNECT_TIMEOUT_S: Final = 3.0
_API_VERSIONS: Final = 18
_LARGEST_ANSWER: Final = 1 << 20

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaSecurity(BaseModel):
    """What a client needs besides the address; the names are Kafka's own.

    Attributes
    ----------
    protocol
        As Kafka's ``security.protocol``.
    ca_file
        Certificates (PEM) that may vouch for the broker; default: the system's.
    cert_file, key_file
        This client's own certificate and key (PEM), where the broker asks for one.
    mechanism, username, password_file
        For the protocols with SASL; the file holds the password alone.

    Raises
    ------
    pydantic.ValidationError
        The settings contradict each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Protocol = "PLAINTEXT"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    mechanism: Mechanism | None = None
    username: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.uses_tls and any((self.ca_file, self.cert_file, self.key_file)):
            raise ValueError(
                f"protocol {self.protocol} uses no certificates: set protocol to SSL or SASL_SSL, "
                "or remove ca_file, cert_file and key_file"
            )
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both, or none")
        sasl = (self.mechanism, self.username, self.password_file)
        if self.uses_sasl and not all(sasl):
            raise ValueError(f"protocol {self.protocol} needs mechanism, username and password_file")
        if not self.uses_sasl and any(sasl):
            raise ValueError(
                f"protocol {self.protocol} uses no password: set protocol to SASL_SSL (or SASL_PLAINTEXT), "
                "or remove mechanism, username and password_file"
            )
        return self

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def uses_sasl(self) -> bool:
        """Whether clients show a name and a password."""
        return self.protocol.startswith("SASL")

    def describe(self) -> str:
        """Say it in one line, without a secret."""
        words: list[str] = [self.protocol]
        if self.uses_sasl:
            words.append(f"{self.mechanism} as {self.username}")
        if self.uses_tls:
            words.append(f"CA {self.ca_file or 'of the system'}")
        if self.cert_file is not None:
            words.append(f"client certificate {self.cert_file}")
        return ", ".join(words)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Make what TLS needs; None without TLS.

        Raises
        ------
        BrokerError
            A file cannot be read, or holds something else.
        """
        if not self.uses_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise BrokerError(
                f"kafka.ca_file {self.ca_file} cannot be used ({_cause(error)}): give certificates as PEM"
            ) from error
        if self.cert_file is not None and self.key_file is not None:
            try:
                context.load_cert_chain(str(self.cert_file), str(self.key_file))
            except (OSError, ssl.SSLError) as error:
                raise BrokerError(
                    f"kafka.cert_file {self.cert_file} and key_file {self.key_file} cannot be used "
                    f"({_cause(error)}): give a certificate and its key as PEM"
                ) from error
        return context

    def password(self) -> str | None:
        """Read the password; None without SASL.

        Raises
        ------
        BrokerError
            The file cannot be read, or is empty.
        """
        if self.password_file is None:
            return None
        try:
            password = self.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BrokerError(
                f"kafka.password_file {self.password_file} cannot be read ({_cause(error)}): "
                "check the path and who may read it"
            ) from error
        if not password:
            raise BrokerError(
                f"kafka.password_file {self.password_file} is empty: write the password into it"
            )
        return password

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments for the clients of kafka-python and of aiokafka, which agree on them.

        Raises
        ------
        BrokerError
            A file cannot be used.
        """
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.uses_tls:
            options["ssl_context"] = self.ssl_context()
        if self.uses_sasl:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password(),
            }
        return options


PLAINTEXT: Final = KafkaSecurity()
"""No encryption and no password: right on loopback only."""


def check_reachable(bootstrap: str, security: KafkaSecurity = PLAINTEXT) -> None:
    """Return when a broker answers in the protocol that is configured; asked before clients try for long.

    Connects, makes the TLS handshake and asks for the broker's versions, which needs no password.

    Parameters
    ----------
    bootstrap
        ``host:port``, several joined by commas: one that answers is enough.

    Raises
    ------
    BrokerError
        None does; the message tells why the last one does not.
    """
    context = security.ssl_context()
    problem = f"no broker answers at {bootstrap}: start it, or correct kafka.bootstrap"
    for address in bootstrap.split(","):
        try:
            if _answers(address.strip(), context):
                return
            problem = _mute(address, security)
        except ssl.SSLCertVerificationError as error:
            problem = (
                f"broker {address} shows a certificate that {security.ca_file or 'no CA of this system'} "
                f"does not vouch for ({error.verify_message}): correct kafka.ca_file or kafka.bootstrap"
            )
        except (ssl.SSLError, TimeoutError) as error:
            if context is None:
                problem = _mute(address, security)
            else:
                problem = (
                    f"broker {address} does not accept TLS from this client ({_cause(error)}): correct "
                    "kafka.protocol, or kafka.cert_file if it asks for a client certificate"
                )
        except (OSError, ValueError):
            continue
    raise BrokerError(problem)


def _mute(address: str, security: KafkaSecurity) -> str:
    certificate = ", kafka.cert_file if it asks for a client certificate," if security.uses_tls else ""
    return (
        f"what listens at {address} does not answer as a Kafka broker over {security.protocol}: correct "
        f"kafka.protocol{certificate} or kafka.bootstrap"
    )


def _answers(address: str, context: ssl.SSLContext | None) -> bool:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    request = struct.pack(">hhih", _API_VERSIONS, 0, 1, -1)
    with socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S) as plain:
        connection = plain if context is None else context.wrap_socket(plain, server_hostname=host)
        with connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(8)
    return len(answer) == 8 and 0 < struct.unpack_from(">i", answer)[0] < _LARGEST_ANSWER


def _cause(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error or type(error).__name__)
