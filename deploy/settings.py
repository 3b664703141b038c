"""Settings that the receiver does not read: the admin port's and the embedded engine's.

One environment configures all processes of a deployment. Therefore each engine has one class, composed of the parts
that its processes read, and a process refuses to start if any part is wrong. Functions take the part that they need:
`AdminSettings`, or `ReceiverSettings` in `ingest`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo

from ingest import settings
from ingest.settings import PREFIX, ReceiverSettings, Settings
from schemas import event_names, events
from schemas.event_names import EventNames
from workers.admin.links import OutsideLinks
from workers.callbacks import addresses

# Documented before all others: nearly every deployment sets some of them.
_FIRST = ("accounts", "data_dir", "host", "port", "admin_host", "admin_port", "admin_token_file")
# Of links: nothing, or an address for a browser.
WEB_ADDRESS = r"^(https?://\S+)?$"


class AdminSettings(Settings):
    """Settings of every process with an admin port: the port itself and the log."""

    admin_host: str = Field("127.0.0.1", min_length=1, description="Address of the admin port.")
    admin_port: int = Field(
        9464, ge=0, le=65535, description="Admin port: probes, metrics, API, console. 0 chooses a free port."
    )
    admin_token_file: Path | None = Field(
        None,
        description="File with the tokens that the admin port requires for writes, and for reads if it is bound beyond "
        "loopback: one operator a line, NAME: TOKEN, or one token alone. Read at the start.",
    )
    admin_names: str = Field(
        "",
        description="Host names, separated by commas, under which the admin port is reached. Addresses and localhost "
        "are always accepted.",
    )

    standstill_limit_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="Seconds for which the event loop may stand still; then the process ends with exit code 4, to be "
        "restarted. 0: never.",
    )
    log_queue_max: int = Field(
        20_000, ge=1, description="Log lines that may wait to be written; further ones are dropped."
    )
    traces: bool = Field(
        False,
        description="Send traces to an OpenTelemetry collector (extra otel). The variables OTEL_… say where to, "
        "and how many: by default, of every hundredth notification.",
    )


class EngineSettings(AdminSettings, ReceiverSettings):
    """The part that both engines have: the receiver with its public port, the worker, and the admin port."""

    handling_limit_s: float = Field(
        5.0,
        ge=0.5,
        le=300,
        description="Seconds that reading one record, or deciding one batch, may take; the record on which it takes "
        "longer is set aside as dead.",
    )

    raw_retention_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Days after which personal data is erased from the stored bytes of a settled notification. Held "
        "ones keep theirs until they are resolved. 0: never.",
    )

    callbacks: Path | None = Field(
        None,
        description="File with the endpoints that get order events over HTTP, such as callbacks.toml. Read again while "
        "the process runs. Without it no callbacks are sent.",
    )
    callback_networks: str = Field(
        "",
        description="Networks, separated by commas, to which callbacks may go although they are private, such as "
        "10.20.0.0/16; also without TLS. Empty: only public addresses, by https.",
    )

    query_after_s: float = Field(
        900.0,
        ge=1,
        le=86_400,
        description="Seconds after which an order that is not paid is asked about at Alipay, and again whenever its "
        "age has doubled, for three days. For accounts with queries = true.",
    )
    queries_per_s: float = Field(
        5.0, ge=0.01, le=1000, description="Questions to Alipay per second, of all accounts together."
    )

    event_type_prefix: str = Field(
        events.TYPE_PREFIX,
        description="First part of the types of events: a name of yours, such as com.example.payments. Consumers see "
        "it in ce_type; com.alipay… is refused.",
    )
    schema_base: str = Field(
        event_names.SCHEMA_BASE,
        description="URL of the folder where you publish the files of `schema export`; with the file's name it is "
        "ce_dataschema of an event. The default resolves to nothing.",
    )
    runbooks_url: str = Field(
        "",
        pattern=WEB_ADDRESS,
        description="Address of the folder with the runbooks, as given to `deploy.monitoring`. The console's first "
        "page links to those of facts that are not good.",
    )
    grafana_url: str = Field(
        "", pattern=WEB_ADDRESS, description="Address of Grafana. The console's first page links to the boards there."
    )

    @property
    def event_names(self) -> EventNames:
        return EventNames(type_prefix=self.event_type_prefix, schema_base=self.schema_base)

    @property
    def links(self) -> OutsideLinks:
        return OutsideLinks(runbooks=self.runbooks_url.rstrip("/"), grafana=self.grafana_url.rstrip("/"))

    def contradictions(self) -> list[str]:
        """Return one fault for each setting that cannot be used, and each pair that cannot hold together."""
        faults = super().contradictions()
        faults += [PREFIX + fault for fault in event_names.faults(self.event_type_prefix, self.schema_base)]
        try:
            addresses.networks(self.callback_networks)
        except ValueError as error:
            faults.append(f"{PREFIX}CALLBACK_NETWORKS: {error}")
        if self.port and self.port == self.admin_port and self.host == self.admin_host:
            faults.append(f"{PREFIX}PORT and ADMIN_PORT must differ on one host: the admin port is not for the public")
        if 0 < self.standstill_limit_s < 2 * self.handling_limit_s:
            faults.append(
                f"{PREFIX}STANDSTILL_LIMIT_S must be 0, or at least twice HANDLING_LIMIT_S: the record has to be set "
                "aside before the process ends"
            )
        return faults


class EmbeddedSettings(EngineSettings):
    """The settings of `up`."""

    data_dir: Path = Field(
        Path("alipay-notify-data"), description="Directory of the embedded engine's journal and orders."
    )


def load(environ: Mapping[str, str], **overrides: Any) -> EmbeddedSettings:
    """Return the settings in `environ`. An override that is not `None` (a command's option) takes precedence.

    Raises:
        BadSettings: with every fault found.
    """
    return settings.load_as(EmbeddedSettings, environ, **overrides)


def documented(kind: type[Settings]) -> dict[str, FieldInfo]:
    """Return the fields of a settings class in the order in which users see them."""
    fields = kind.model_fields
    return {name: fields[name] for name in (*_FIRST, *fields) if name in fields}
