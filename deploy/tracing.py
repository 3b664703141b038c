"""Whether a process traces, and to where: the setting TRACES, and OpenTelemetry's own variables.

OpenTelemetry is imported only if the process traces, and need not be installed otherwise.

    OTEL_EXPORTER_OTLP_ENDPOINT   the collector, by default http://localhost:4318; also …_HEADERS, …_CERTIFICATE …
    OTEL_TRACES_SAMPLER, …_ARG    by default parentbased_traceidratio and 0.01: every hundredth notification
    OTEL_TRACES_EXPORTER          otlp; none turns traces off, as does OTEL_SDK_DISABLED=true
    OTEL_BSP_…, OTEL_SPAN_…       the queue and the limits of spans
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deploy.logs import LogWriter
from deploy.settings import AdminSettings
from deploy.start_errors import CannotTrace
from ingest.settings import PREFIX
from schemas import topics

if TYPE_CHECKING:
    from deploy.spans import ProcessTraces

RATIO = 0.01
SAMPLERS = frozenset(
    {"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off",
     "parentbased_traceidratio"}
)  # fmt: skip
PROTOCOL = "http/protobuf"


@asynccontextmanager
async def running(
    settings: AdminSettings, log_writer: LogWriter, *, system: str, group: str, prefix: str = topics.PREFIX
) -> AsyncIterator["ProcessTraces | None"]:
    """Yield the traces of this process, or `None` if it does not trace. On leaving, export the last spans.

    `system` and `group` name the log and its readers, `prefix` begins the names of its topics.

    Raises:
        CannotTrace: OpenTelemetry is not installed, or its variables cannot be used.
    """
    traces = _begin(log_writer, system=system, group=group, prefix=prefix) if settings.traces else None
    try:
        yield traces
    finally:
        if traces is not None:
            await traces.stop()


def _begin(log_writer: LogWriter, *, system: str, group: str, prefix: str) -> "ProcessTraces | None":
    if _variable("OTEL_SDK_DISABLED") == "true" or _variable("OTEL_TRACES_EXPORTER") == "none":
        return None
    _check_variables()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from deploy import spans
    except ImportError as error:
        install = "install it with uv tool install 'alipay-notify[otel]', or with pip"
        raise CannotTrace(f"{PREFIX}TRACES is set, and OpenTelemetry is missing ({error.name}): {install}") from None
    try:
        processor = BatchSpanProcessor(OTLPSpanExporter())
        places = spans.Places(system=system, group=group, prefix=prefix)
        return spans.ProcessTraces(
            processor, ratio=_ratio(), places=places, service=log_writer.service, version=log_writer.version
        )
    except ValueError as error:
        raise CannotTrace(f"a variable OTEL_… cannot be used: {error}") from error


def _check_variables() -> None:
    """Refuse values that OpenTelemetry would replace by its defaults, with a warning in the log."""
    if (exporter := _variable("OTEL_TRACES_EXPORTER")) not in ("", "otlp"):
        raise CannotTrace(f"OTEL_TRACES_EXPORTER is {exporter!r}: it must be otlp or none")
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
        if _variable(name) not in ("", PROTOCOL):
            raise CannotTrace(f"{name} is {_variable(name)!r}: only {PROTOCOL} is possible")
    if (sampler := _variable("OTEL_TRACES_SAMPLER")) and sampler not in SAMPLERS:
        raise CannotTrace(f"OTEL_TRACES_SAMPLER is {sampler!r}: it must be one of {', '.join(sorted(SAMPLERS))}")
    if (ratio := _variable("OTEL_TRACES_SAMPLER_ARG")) and not _is_ratio(ratio):
        raise CannotTrace(f"OTEL_TRACES_SAMPLER_ARG is {ratio!r}: it must be a number from 0 to 1")


def _ratio() -> float:
    """Return the share of notifications to trace. A trace begins at our receiver, so no sampler has a parent to ask."""
    sampler = _variable("OTEL_TRACES_SAMPLER").removeprefix("parentbased_")
    if sampler in ("always_on", "always_off"):
        return float(sampler == "always_on")
    # A sampler that is named without its argument samples all, as OpenTelemetry says.
    return float(_variable("OTEL_TRACES_SAMPLER_ARG") or (1.0 if sampler else RATIO))


def _is_ratio(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip().lower()
