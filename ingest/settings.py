"""The receiver's settings, and how settings are read: from a mapping, checked against each other, then frozen.

Each setting is an environment variable: `ALIPAY_NOTIFY_` and the field's name in capitals. What describes a merchant's
accounts is not a setting; it stands in `accounts.toml`. The admin port's settings and each engine's own are declared in
`deploy`; its classes are composed of `ReceiverSettings` and theirs.

All faults are reported at once, because each restart of a process that refuses to start costs the operator a minute.
Contradictions between deadlines are faults too: if a body may take longer than the whole answer, no deadline holds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.form import BODY_BYTES_MAX

PREFIX = "ALIPAY_NOTIFY_"

KEEPALIVE_BEHIND_LOAD_BALANCER_S = 65.0  # above the balancer's own idle time, so that it closes first
KEEPALIVE_EXPOSED_S = 10.0  # the only limit on a header that arrives byte by byte


class BadSettings(ValueError):
    """The settings cannot be used. `faults` has one line for each, with the variable and the reason."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class Settings(BaseSettings):
    """Base of all settings classes. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", case_sensitive=False)

    # Values that replace missing or bad required settings while the other settings are checked.
    STAND_INS: ClassVar[dict[str, Any]] = {}

    def contradictions(self) -> list[str]:
        """Return one fault for each combination of settings that cannot hold together."""
        return []

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only the values that are passed in: `load_as` reads the environment, nothing else does."""
        return (init_settings,)

    @field_validator("*", mode="before")
    @classmethod
    def _is_given(cls, value: Any, info: ValidationInfo) -> Any:
        """Read blanks alone as no value, and refuse an empty path: a variable was set and lost its value.

        An empty path would mean the working directory.
        """
        if isinstance(value, str) and not value.strip():
            value = ""
        if value == "" and _is_path(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("is empty: give a path, or remove the variable")
        return value


class ReceiverSettings(Settings):
    """Settings of the public port and of the requests that arrive there."""

    STAND_INS: ClassVar[dict[str, Any]] = {"accounts": Path("accounts.toml")}

    accounts: Path = Field(description="Path of accounts.toml. Key files named there are relative to its directory.")
    host: str = Field("127.0.0.1", min_length=1, description="Address of the public port.")
    port: int = Field(8080, ge=0, le=65535, description="Public port, POST /notify/{account}. 0 chooses a free port.")

    exposed: bool = Field(False, description="Set to true if no load balancer stands before the public port.")
    keepalive_timeout_s: float | None = Field(
        None,
        gt=0,
        le=3600,
        description="Seconds that a connection may be idle, or a header may take to arrive. Default: 65, or 10 if "
        "EXPOSED is true.",
    )
    body_deadline_s: float = Field(2.0, gt=0, le=60, description="Seconds in which a request body must arrive.")
    request_deadline_s: float = Field(3.0, gt=0, le=60, description="Seconds in which every request is answered.")
    confirm_deadline_s: float = Field(2.0, gt=0, le=60, description="Seconds that Alipay's notify_verify may take.")
    write_deadline_s: float = Field(5.0, gt=0, le=60, description="Seconds in which a sender must read its answer.")
    lingering_s: float = Field(2.0, ge=0, le=10, description="Seconds for which the rest of a refused body is read.")
    drain_delay_s: float = Field(
        5.0, ge=0, le=60, description="Seconds to keep serving after readiness goes off, until load balancers notice."
    )
    shutdown_timeout_s: float = Field(
        8.0, gt=0, le=60, description="Seconds that requests in progress may take to finish at a stop."
    )

    in_flight_max: int = Field(512, ge=1, description="Requests in progress; further ones are answered 503.")
    in_flight_bytes_max: int = Field(
        32 << 20, ge=BODY_BYTES_MAX, description="Bytes of all request bodies in progress; beyond that, 503."
    )
    connections_max: int = Field(
        2000, ge=1, description="Open connections; beyond that, idle ones are closed, or new ones answered 503."
    )
    backlog: int = Field(2048, ge=1, description="Connections that the kernel queues until they are accepted.")
    reuse_port: bool = Field(False, description="Let several processes share the public port (SO_REUSEPORT).")

    key_reload_interval_s: float = Field(
        2.0, gt=0, description="Seconds between two looks for a changed accounts.toml or key file."
    )
    log_sample: int = Field(1, ge=1, description="Log every n-th accepted notification; 1 logs all.")
    log_refusals_per_s: float = Field(
        20.0, gt=0, description="Log lines per second for refused requests; further refusals are only counted."
    )

    @property
    def keepalive_s(self) -> float:
        """Return the keep-alive timeout in force."""
        if self.keepalive_timeout_s is not None:
            return self.keepalive_timeout_s
        return KEEPALIVE_EXPOSED_S if self.exposed else KEEPALIVE_BEHIND_LOAD_BALANCER_S

    def contradictions(self) -> list[str]:
        """Return one fault for each pair of settings that cannot hold together."""
        faults = []
        if self.body_deadline_s >= self.request_deadline_s:
            faults.append("BODY_DEADLINE_S must be below REQUEST_DEADLINE_S, which includes the body")
        if self.confirm_deadline_s >= self.request_deadline_s:
            faults.append("CONFIRM_DEADLINE_S must be below REQUEST_DEADLINE_S, which includes the append after it")
        if self.keepalive_s <= self.request_deadline_s:
            faults.append("KEEPALIVE_TIMEOUT_S must be above REQUEST_DEADLINE_S")
        if self.exposed and self.keepalive_s > KEEPALIVE_EXPOSED_S:
            faults.append(f"KEEPALIVE_TIMEOUT_S must be at most {KEEPALIVE_EXPOSED_S:g} if EXPOSED is true")
        if self.shutdown_timeout_s < self.request_deadline_s:
            faults.append("SHUTDOWN_TIMEOUT_S must not be below REQUEST_DEADLINE_S, or a stop cuts requests off")
        if self.connections_max < self.in_flight_max:
            faults.append("CONNECTIONS_MAX must not be below IN_FLIGHT_MAX, because each request has a connection")
        return [PREFIX + fault for fault in faults] + super().contradictions()


def _is_path(annotation: Any) -> bool:
    return annotation is Path or Path in get_args(annotation)


S = TypeVar("S", bound=Settings)


def load(environ: Mapping[str, str], **overrides: Any) -> ReceiverSettings:
    """Return a receiver's settings; see `load_as`."""
    return load_as(ReceiverSettings, environ, **overrides)


def load_as(kind: type[S], environ: Mapping[str, str], **overrides: Any) -> S:
    """Return the settings in `environ`. An override that is not `None` (a command's option) takes precedence.

    Raises:
        BadSettings: with every fault found, not just the first.
    """
    given = _read(environ, kind) | {name: value for name, value in overrides.items() if value is not None}
    faults: list[str] = []
    settings = _validated(given, kind, faults)
    faults += settings.contradictions()
    if faults:
        raise BadSettings(faults)
    return settings


def _read(environ: Mapping[str, str], kind: type[Settings]) -> dict[str, Any]:
    source = EnvSettingsSource(kind, env_prefix=PREFIX, case_sensitive=False)
    source.env_vars = {name.lower(): value for name, value in environ.items()}
    return source()


def _validated(given: dict[str, Any], kind: type[S], faults: list[str]) -> S:
    """Return the settings. If some are faulty, add their faults and use defaults, so that the rest can be checked."""
    try:
        return kind(**given)
    except ValidationError as error:
        broken = set()
        for fault in error.errors(include_url=False, include_input=False):
            field = str(fault["loc"][0])
            broken.add(field)
            faults.append(_fault_text(kind, field, fault=fault["type"], text=fault["msg"]))
        sound = {name: value for name, value in given.items() if name not in broken}
        stand_ins = {name: kind.STAND_INS[name] for name in broken if name in kind.STAND_INS}
        return kind(**(sound | stand_ins))


def _fault_text(kind: type[Settings], field: str, *, fault: str, text: str) -> str:
    """Return the text of one fault, with the variable's name."""
    name = f"{PREFIX}{field.upper()}"
    if fault == "missing":
        about = kind.model_fields[field].description or ""
        return f"{name} is not set: {about[:1].lower()}{about[1:].rstrip('.')}"
    return f"{name}: {text.removeprefix('Value error, ').replace('Input should be', 'must be', 1)}"
