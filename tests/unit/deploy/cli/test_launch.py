"""Starting a process: missing extras, errors at the start, and core dumps."""

import resource
from collections.abc import Iterator

import pytest
import typer

from deploy import exits, logs
from deploy.cli import launch
from deploy.logs import LogWriter
from deploy.process import StoppedItself


@pytest.fixture(autouse=True)
def unchanged_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the standard logging and the core limit of the test's own process."""
    monkeypatch.setattr(logs, "capture_standard_logging", lambda log_writer: None)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


def test_refusal_prints_every_fault_and_exits_with_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        launch.refuse("cannot start", ["one", "two"], 2)
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "alipay-notify cannot start:\n  - one\n  - two\n"


def test_missing_module_names_the_extra_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    launch.need("json", extra="cluster")
    with pytest.raises(typer.Exit) as ended:
        launch.need("json", "no_such_module", extra="cluster")
    assert ended.value.exit_code == exits.FAILED
    error = capsys.readouterr().err
    assert "no_such_module" in error
    assert "'alipay-notify[cluster]'" in error


def test_error_that_prevents_the_start_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    async def process(log_writer: LogWriter) -> None:
        raise ValueError("the port is taken")

    with pytest.raises(typer.Exit) as ended:
        launch.run(process, service="shop", queue_max=10, refused_for=(ValueError,))
    assert ended.value.exit_code == exits.FAILED
    assert capsys.readouterr().err == "alipay-notify cannot start:\n  - the port is taken\n"


def test_process_that_stopped_itself_has_an_exit_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    async def process(log_writer: LogWriter) -> None:
        raise StoppedItself("20 dead letters in a row")

    with pytest.raises(typer.Exit) as ended:
        launch.run(process, service="shop", queue_max=10, refused_for=(ValueError,))
    assert ended.value.exit_code == exits.STOPPED_ITSELF
    assert capsys.readouterr().err.endswith("has to be restarted:\n  - 20 dead letters in a row\n")


def test_unexpected_error_is_raised() -> None:
    async def process(log_writer: LogWriter) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        launch.run(process, service="shop", queue_max=10, refused_for=(ValueError,))


def test_process_runs_with_core_dumps_disabled() -> None:
    limits = []

    async def process(log_writer: LogWriter) -> None:
        limits.append(resource.getrlimit(resource.RLIMIT_CORE)[0])

    launch.run(process, service="shop", queue_max=10, refused_for=())
    assert limits == [0]
