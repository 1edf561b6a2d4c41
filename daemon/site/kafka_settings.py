"""The keys under `[kafka]` in `lumiwatch.toml`: where the broker is, and how clients speak to it.

Reads no secret and opens no connection; what the keys mean to a client is in `streams.broker.security`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streams.broker.limits import SMALLEST_LIMIT_BYTES
from streams.broker.security import KafkaSecurity, Mechanism, Protocol


class KafkaSettings(BaseModel):
    """Where the broker is. Without `bootstrap`, `lumiwatch up` starts the embedded one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap: str | None = None
    partitions: int = Field(default=4, ge=1, le=64)
    replication: int = Field(default=1, ge=1, le=16)  # of topics that lumiwatch creates on your Kafka
    embedded_max_bytes: int | None = Field(default=None, ge=SMALLEST_LIMIT_BYTES)
    protocol: Protocol = "PLAINTEXT"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    mechanism: Mechanism | None = None
    username: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _speaks(self) -> KafkaSettings:
        self.security(lambda path: path)  # says what contradicts itself
        if self.bootstrap is None and self.protocol != "PLAINTEXT":
            raise ValueError(
                f"protocol {self.protocol} is for a Kafka of yours: set bootstrap too (the embedded broker "
                "is on loopback, in the clear)"
            )
        return self

    def security(self, path: Callable[[Path], Path]) -> KafkaSecurity:
        """Give what clients need; `path` makes the paths of the file absolute."""

        def absolute(file: Path | None) -> Path | None:
            return None if file is None else path(file)

        return KafkaSecurity(
            protocol=self.protocol,
            ca_file=absolute(self.ca_file),
            cert_file=absolute(self.cert_file),
            key_file=absolute(self.key_file),
            mechanism=self.mechanism,
            username=self.username,
            password_file=absolute(self.password_file),
        )
