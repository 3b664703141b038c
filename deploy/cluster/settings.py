"""Settings of the cluster engine: where Kafka, PostgreSQL and Redis are, and how to log in there.

An address that contains a password can be given in a file, because child processes inherit the environment.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from msgspec import structs
from pydantic import Field

from deploy.settings import EmbeddedSettings, EngineSettings
from ingest.settings import PREFIX, Settings, load_as
from schemas.event_names import EventNames

POSTGRES_SCHEMES = ("postgresql", "postgres")
REDIS_SCHEMES = ("redis", "rediss", "redis+sentinel", "redis+cluster")

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:@/\[\]]*)(:\d{1,5})?")
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):.*@|(?<=password=)[^&]+")


class ServerSettings(Settings):
    """Settings of the servers: addresses, credentials, topics, and how the processes use them."""

    kafka: str = Field("", description="Kafka bootstrap brokers: host:port, separated by commas.")
    kafka_ca_file: Path | None = Field(
        None,
        description="CA certificates that verify the brokers; turns TLS on. For public CAs: "
        "/etc/ssl/certs/ca-certificates.crt.",
    )
    kafka_certificate_file: Path | None = Field(None, description="Client certificate for the brokers (mutual TLS).")
    kafka_key_file: Path | None = Field(None, description="Private key of that certificate.")
    kafka_user: str = Field("", description="User name for the brokers, if they require SASL.")
    kafka_password_file: Path | None = Field(None, description="File with that user's password.")
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism of that user."
    )
    kafka_idempotence: bool = Field(
        False, description="Let brokers drop repeated appends. Workers recognise repeats in any case."
    )
    topic_prefix: str = Field(
        "payments", pattern=r"^[a-z0-9]+(\.[a-z0-9]+)*$", description="Prefix of all topic names."
    )
    development: bool = Field(
        False, description="Accept topics with one replica: acknowledged notifications may be lost with their broker."
    )

    topics_look_interval_s: float = Field(
        60.0, gt=0, le=3600, description="Seconds between a receiver's checks that its topic is still durable enough."
    )

    group: str = Field("alipay-notify", min_length=1, description="Consumer group of the workers.")
    accept_log_loss: bool = Field(
        False,
        description="Start at the earliest available offset even if unprocessed records were deleted (data loss).",
    )
    kafka_session_s: float = Field(
        30.0,
        ge=6,
        le=300,
        description="Kafka session timeout in seconds: how long after its last heartbeat a worker's partitions are "
        "reassigned.",
    )
    postgres: str = Field("", repr=False, description="Address of the order store: postgresql://user@host/database.")
    postgres_file: Path | None = Field(
        None,
        description="File with that address, if it contains a password. Workers and consoles read it at each new "
        "connection.",
    )
    redis: str = Field(
        "",
        repr=False,
        description="Address of the idempotency locks: redis://host/0, redis+sentinel:// or redis+cluster://. Empty: "
        "no locks.",
    )
    redis_file: Path | None = Field(None, description="File with that address, if it contains a password.")
    receipt_key_file: Path | None = Field(
        None,
        description="Receipt keys shared by all processes, one per line. The first signs, all verify. To rotate, "
        "append the new key on all machines first, then move it to the first line; the file is reloaded.",
    )

    peers: str = Field(
        "",
        description="Admin ports of all receivers and workers, for the console: host:port, separated by commas. A name "
        "may lead to several addresses. Empty: the console shows no processes and no refused requests.",
    )

    def contradictions(self) -> list[str]:
        """Return one fault for each pair of settings that cannot hold together, and for each half of a pair."""
        faults = [
            f"{server.upper()} and {server.upper()}_FILE are both set: keep one of them"
            for server in ("postgres", "redis")
            if getattr(self, server) and getattr(self, f"{server}_file")
        ]
        if (self.kafka_certificate_file is None) != (self.kafka_key_file is None):
            faults.append("KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE must be set together")
        if self.kafka_certificate_file is not None and self.kafka_ca_file is None:
            faults.append("KAFKA_CERTIFICATE_FILE needs KAFKA_CA_FILE, which turns TLS on and verifies the brokers")
        if bool(self.kafka_user) != (self.kafka_password_file is not None):
            faults.append("KAFKA_USER and KAFKA_PASSWORD_FILE must be set together")
        if self.kafka_user and self.kafka_mechanism == "PLAIN" and self.kafka_ca_file is None:
            faults.append("KAFKA_MECHANISM PLAIN needs KAFKA_CA_FILE, because without TLS the password is readable")
        return super().contradictions() + [PREFIX + fault for fault in faults]


class ClusterSettings(ServerSettings, EngineSettings):
    """The settings of `ingest`, `worker` and `console`: one class, because one environment serves all three."""

    @property
    def event_names(self) -> EventNames:
        return structs.replace(super().event_names, topic_prefix=self.topic_prefix, group=self.group)


class AllSettings(ClusterSettings, EmbeddedSettings):
    """Every setting of both engines, for `config show` and the reference page."""


class UnreadableFile(Exception):
    """A setting, or the file that it names, cannot be used; the text says which and why."""


def load(environ: Mapping[str, str], **overrides: Any) -> ClusterSettings:
    """Return the settings in `environ`. An override that is not `None` (a command's option) takes precedence.

    Raises:
        BadSettings: with every fault found.
    """
    return load_as(ClusterSettings, environ, **overrides)


def kafka_address(settings: ServerSettings) -> list[str]:
    """Return the bootstrap brokers, each as host:port.

    Raises:
        UnreadableFile: none is set, or one is not host:port.
    """
    brokers = [each.strip() for each in settings.kafka.split(",") if each.strip()]
    if not brokers:
        raise UnreadableFile(f"{PREFIX}KAFKA is not set: name some brokers, host:port,host:port")
    for broker in brokers:
        if not _HOST.fullmatch(broker):
            raise UnreadableFile(f"{PREFIX}KAFKA: {broker!r} is not host:port")
    return brokers


def postgres_address(settings: ServerSettings) -> str:
    """Return the address of the order store.

    Raises:
        UnreadableFile: none is set, or it is not an address of PostgreSQL.
    """
    return _address(settings.postgres, settings.postgres_file, "POSTGRES", POSTGRES_SCHEMES)


def rotating_postgres_address(settings: ServerSettings) -> Callable[[], str]:
    """Return a function that returns the address of the order store, read from its file again.

    Raises:
        UnreadableFile: as `postgres_address`; also from the function.
    """
    postgres_address(settings)  # a start is refused by the setting's name
    return partial(postgres_address, settings)


def redis_address(settings: ServerSettings) -> str | None:
    """Return the address of the idempotency locks, or `None` if workers run without locks.

    Raises:
        UnreadableFile: it is not an address of Redis.
    """
    if not settings.redis and settings.redis_file is None:
        return None
    return _address(settings.redis, settings.redis_file, "REDIS", REDIS_SCHEMES)


def peer_addresses(settings: ServerSettings) -> list[tuple[str, int]]:
    """Return host and port of each receiver and worker that the console asks; none if none is set.

    Raises:
        UnreadableFile: one is not host:port.
    """
    found = []
    for text in (each.strip() for each in settings.peers.split(",")):
        if not text:
            continue
        match = _HOST.fullmatch(text)
        host, port = (match[1].strip("[]"), int((match[2] or ":0")[1:])) if match else ("", 0)
        if not host or not 0 < port <= 65535:
            raise UnreadableFile(f"{PREFIX}PEERS: {text!r} is not host:port")
        found.append((host, port))
    return found


def secret(path: Path, setting: str, *, bytes_min: int) -> bytes:
    """Return the content of a secret file, without the line's end.

    Raises:
        UnreadableFile: the file cannot be read, or its secret is shorter than `bytes_min`.
    """
    return _long_enough(_text(path, setting), path, setting, bytes_min)


def secrets(path: Path, setting: str, *, bytes_min: int) -> list[bytes]:
    """Return the secret in each line of a file, in order; at least one.

    Raises:
        UnreadableFile: the file cannot be read, or one of its secrets is shorter than `bytes_min`.
    """
    lines = [line.strip() for line in _text(path, setting).splitlines()]
    given = [line for line in lines if line] or [""]
    return [_long_enough(line, path, setting, bytes_min) for line in given]


def _long_enough(text: str, path: Path, setting: str, bytes_min: int) -> bytes:
    secret = text.encode()
    if len(secret) < bytes_min:
        raise UnreadableFile(f"{PREFIX}{setting}: the secret in {path} is shorter than {bytes_min} bytes")
    return secret


def _address(address: str, path: Path | None, setting: str, schemes: tuple[str, ...]) -> str:
    if not address and path is not None:
        address = _text(path, f"{setting}_FILE")
    if not address:
        raise UnreadableFile(f"{PREFIX}{setting} is not set: give the address, {schemes[0]}://…")
    scheme, _, rest = address.partition("://")
    if scheme not in schemes:
        raise UnreadableFile(f"{PREFIX}{setting} does not begin with {schemes[0]}://")
    # Checked here because a client library's error would quote the unreadable part, which may be a piece of the
    # password.
    hosts = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    if not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        raise UnreadableFile(
            f"{PREFIX}{setting} is not {schemes[0]}://user:password@host:port/…; in a password, write / as %2F, "
            "# as %23, ? as %3F, : as %3A, @ as %40, % as %25"
        )
    return address


def without_password(address: str) -> str:
    """Return the address with its password replaced by an ellipsis."""
    return _PASSWORD.sub(lambda found: f"{found[1]}:…@" if found[1] is not None else "…", address)


def _text(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise UnreadableFile(f"{PREFIX}{setting}: {path} cannot be read: {type(error).__name__}") from None
