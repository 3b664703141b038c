"""Settings of the cluster engine: where Kafka, PostgreSQL and Redis are, and how to log in there.

An address that contains a password can be given in a file, because child processes inherit the environment.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from deploy.settings import EmbeddedSettings, EngineSettings
from ingest import settings
from ingest.settings import Settings

POSTGRES_SCHEMES = ("postgresql", "postgres")
REDIS_SCHEMES = ("redis", "rediss", "redis+sentinel", "redis+cluster")

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:@/\[\]]*)(:\d{1,5})?")
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):.*@|(?<=password=)[^&]+")


class ServerSettings(Settings):
    """Settings of the servers: addresses, credentials, topics, and how the processes use them."""

    kafka: str = Field("", description="Kafka's brokers to ask first, host:port separated by commas.")
    kafka_ca_file: Path | None = Field(
        None,
        description="Speak TLS to the brokers, and trust who is signed by these; for public ones, "
        "/etc/ssl/certs/ca-certificates.crt.",
    )
    kafka_certificate_file: Path | None = Field(None, description="Our own certificate for the brokers.")
    kafka_key_file: Path | None = Field(None, description="The private key of that certificate.")
    kafka_user: str = Field("", description="Who we are to the brokers, where they ask (SASL).")
    kafka_password_file: Path | None = Field(None, description="File with that user's password.")
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How that user proves it."
    )
    kafka_idempotence: bool = Field(
        False, description="Have the brokers drop repeated appends. The order store absorbs them anyway."
    )
    topic_prefix: str = Field(
        "payments", pattern=r"^[a-z0-9]+(\.[a-z0-9]+)*$", description="What the names of all topics begin with."
    )
    development: bool = Field(
        False, description="Accept topics with a single replica: what is acknowledged may be lost with its broker."
    )

    topics_look_interval_s: float = Field(
        60.0, gt=0, le=3600, description="How often a receiver looks whether its topic is as strong as promised."
    )

    group: str = Field("alipay-notify", min_length=1, description="The workers' consumer group.")
    accept_log_loss: bool = Field(
        False, description="Let workers begin with what the log still has, where it lost records without a disposition."
    )
    kafka_session_s: float = Field(
        30.0, ge=6, le=300, description="After how long without a word a worker's partitions are given to others."
    )
    postgres: str = Field("", repr=False, description="The order store: postgresql://user@host/database.")
    postgres_file: Path | None = Field(None, description="File with that address, where it has a password in it.")
    redis: str = Field(
        "", repr=False, description="Claims: redis://host/0, or redis+sentinel://, redis+cluster://. None: without."
    )
    redis_file: Path | None = Field(None, description="File with that address, where it has a password in it.")
    receipt_key_file: Path | None = Field(
        None,
        description="File with a secret that all processes share: verified once is verified for all. Of several lines, "
        "the first marks what is verified, and all are believed: so it is changed without a gap.",
    )

    def contradictions(self) -> list[str]:
        """Each pair of settings that cannot both be kept, and each that is half of a pair."""
        faults = [
            f"{server.upper()} and {server.upper()}_FILE are two addresses of one server: give one"
            for server in ("postgres", "redis")
            if getattr(self, server) and getattr(self, f"{server}_file")
        ]
        if (self.kafka_certificate_file is None) != (self.kafka_key_file is None):
            faults.append("KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE go together")
        if self.kafka_certificate_file is not None and self.kafka_ca_file is None:
            faults.append("KAFKA_CERTIFICATE_FILE needs KAFKA_CA_FILE: whom it is shown to has to be known first")
        if bool(self.kafka_user) != (self.kafka_password_file is not None):
            faults.append("KAFKA_USER and KAFKA_PASSWORD_FILE go together")
        if self.kafka_user and self.kafka_mechanism == "PLAIN" and self.kafka_ca_file is None:
            faults.append(
                "KAFKA_MECHANISM PLAIN needs KAFKA_CA_FILE: without TLS everybody on the way reads the password"
            )
        return super().contradictions() + [settings.PREFIX + fault for fault in faults]


class ClusterSettings(ServerSettings, EngineSettings):
    """The settings of `ingest`, `worker` and `console`: one class, because one environment serves all three."""


class AllSettings(ClusterSettings, EmbeddedSettings):
    """Every setting of both engines, for `config show` and the reference page."""


class UnreadableFile(Exception):
    """A file that a setting names cannot be read, or does not hold what it should."""


def load(environ: Mapping[str, str], **overrides: Any) -> ClusterSettings:
    """The settings in `environ`; an override that is not `None` (a command's option) stands above it.

    Raises:
        BadSettings: with every fault found.
    """
    return settings.load_as(ClusterSettings, environ, **overrides)


def kafka_address(told: ServerSettings) -> list[str]:
    """The brokers to ask first.

    Raises:
        UnreadableFile: nobody says it, or not as host:port.
    """
    brokers = [each.strip() for each in told.kafka.split(",") if each.strip()]
    if not brokers:
        raise UnreadableFile(f"{settings.PREFIX}KAFKA is not set: name some brokers, host:port,host:port")
    for broker in brokers:
        if not _HOST.fullmatch(broker):
            raise UnreadableFile(f"{settings.PREFIX}KAFKA: {broker!r} is not host:port")
    return brokers


def postgres_address(settings: ServerSettings) -> str:
    """Where the order store is.

    Raises:
        UnreadableFile: nobody says it, or it is no address of PostgreSQL.
    """
    return _address(settings.postgres, settings.postgres_file, "POSTGRES", POSTGRES_SCHEMES)


def redis_address(settings: ServerSettings) -> str | None:
    """Where claims are kept; `None` where the workers go without.

    Raises:
        UnreadableFile: it is no address of Redis.
    """
    if not settings.redis and settings.redis_file is None:
        return None
    return _address(settings.redis, settings.redis_file, "REDIS", REDIS_SCHEMES)


def secret(path: Path, setting: str, *, bytes_min: int) -> bytes:
    """What a secret file holds, without the line's end.

    Raises:
        UnreadableFile: it cannot be read, or it could be guessed.
    """
    return _unguessable(_text(path, setting), path, setting, bytes_min)


def secrets(path: Path, setting: str, *, bytes_min: int) -> list[bytes]:
    """What each line of a secret file holds, the first one's first; at least one.

    Raises:
        UnreadableFile: it cannot be read, or a line of it could be guessed.
    """
    lines = [line.strip() for line in _text(path, setting).splitlines()]
    told = [line for line in lines if line] or [""]
    return [_unguessable(line, path, setting, bytes_min) for line in told]


def _unguessable(text: str, path: Path, setting: str, bytes_min: int) -> bytes:
    secret = text.encode()
    if len(secret) < bytes_min:
        raise UnreadableFile(
            f"{settings.PREFIX}{setting}: what {path} holds is shorter than {bytes_min} bytes and could be guessed"
        )
    return secret


def _address(told: str, path: Path | None, setting: str, schemes: tuple[str, ...]) -> str:
    address = told or ("" if path is None else _text(path, f"{setting}_FILE"))
    if not address:
        raise UnreadableFile(f"{settings.PREFIX}{setting} is not set: say where it is, {schemes[0]}://…")
    scheme, _, rest = address.partition("://")
    if scheme not in schemes:
        raise UnreadableFile(f"{settings.PREFIX}{setting} does not begin with {schemes[0]}://")
    # A client would say what it could not read, and that is a piece of the password then.
    hosts = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    if not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        raise UnreadableFile(
            f"{settings.PREFIX}{setting}: it is not {schemes[0]}://user:password@host:port/…; in a password, write / "
            "as %2F, # as %23, ? as %3F, : as %3A, @ as %40, % as %25"
        )
    return address


def without_password(address: str) -> str:
    """The address as it may be shown."""
    return _PASSWORD.sub(lambda found: f"{found[1]}:…@" if found[1] is not None else "…", address)


def _text(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise UnreadableFile(f"{settings.PREFIX}{setting}: {path} cannot be read: {type(error).__name__}") from None
