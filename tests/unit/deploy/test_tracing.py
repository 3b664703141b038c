"""Whether a process traces: its setting, OpenTelemetry's variables, and a process that does not even import it."""

import os
import subprocess
import sys
from io import StringIO

import pytest

from deploy import settings, tracing
from deploy.logs import LogWriter
from deploy.settings import EmbeddedSettings
from deploy.spans import ProcessTraces
from deploy.start_errors import CannotTrace
from tests.support.paths import ROOT

LOG = LogWriter(StringIO(), service="shop", version="1.2")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


def configured(**given: object) -> EmbeddedSettings:
    return settings.load({}, accounts="accounts.toml", **given)


async def begun(monkeypatch: pytest.MonkeyPatch, **variables: str) -> ProcessTraces | None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with tracing.running(configured(traces=True), LOG, system="kafka", group="g", prefix="pay") as traces:
        return traces


async def test_nothing_is_traced_by_default() -> None:
    assert not configured().traces
    async with tracing.running(configured(), LOG, system="kafka", group="g") as traces:
        assert traces is None


async def test_every_hundredth_notification_is_traced_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = await begun(monkeypatch)
    assert traces is not None
    assert traces._sampled_below == round(0.01 * 2**64)
    resource = traces._provider.resource.attributes
    assert (resource["service.name"], resource["service.version"]) == ("shop", "1.2")
    assert traces._send_name == "send pay.alipay.notification.v1"


@pytest.mark.parametrize(
    ("variables", "ratio"),
    [
        ({"OTEL_TRACES_SAMPLER_ARG": "0.5"}, 0.5),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, 0.25),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, 1),
        ({"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, 1),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, 1),
        ({"OTEL_TRACES_SAMPLER": "Parentbased_Always_Off"}, 0),
    ],
)
async def test_variables_choose_how_many_are_traced(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], ratio: float
) -> None:
    traces = await begun(monkeypatch, **variables)
    assert traces is not None
    assert traces._sampled_below == ratio * 2**64


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
async def test_variables_turn_traces_off(monkeypatch: pytest.MonkeyPatch, off: dict[str, str]) -> None:
    assert await begun(monkeypatch, **off) is None


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_TRACES_SAMPLER": "sometimes"},
        {"OTEL_TRACES_SAMPLER_ARG": "1 %"},
        {"OTEL_TRACES_SAMPLER_ARG": "1.5"},
        {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
    ],
)
async def test_variable_that_cannot_be_used_refuses_the_start_by_its_name(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    with pytest.raises(CannotTrace, match="OTEL_"):
        await begun(monkeypatch, **variables)


async def test_missing_library_refuses_the_start_and_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(CannotTrace, match=r"alipay-notify\[otel\]"):
        await begun(monkeypatch)


def imported(*modules: str) -> set[str]:
    """The modules that a fresh process has after it has imported these."""
    check = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_process_that_does_not_trace_imports_nothing_of_it() -> None:
    found = imported("deploy.cli.main", "deploy.embedded.up", "deploy.cluster.receiver")
    assert [module for module in found if module.startswith("opentelemetry")] == []
    # A worker's Redis client imports it for metrics of its own, if it is installed.
    assert "deploy.spans" not in imported("deploy.cluster.worker", "deploy.cluster.console")
