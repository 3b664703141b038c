"""Start a command's process: its log, its event loop, and the errors that keep it from starting."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from deploy import exits
from deploy.cli import terminal

if TYPE_CHECKING:
    from deploy.logs import LogWriter


def refuse(why: str, faults: list[str], code: int) -> NoReturn:
    """Print every fault on stderr and exit with `code`; `why` continues the words "alipay-notify"."""
    terminal.note(f"alipay-notify {why}:")
    for fault in faults:
        for number, line in enumerate(fault.splitlines()):
            terminal.note(line, label="    " if number else "  - ")
    raise typer.Exit(code)


def need(*modules: str, extra: str) -> None:
    """Exit and name the extra to install if one of these modules is missing."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        install = f"install it with uv tool install 'alipay-notify[{extra}]', or with pip"
        refuse("is not completely installed", [f"{module} is missing: {install}" for module in missing], exits.FAILED)


def run(
    process: Callable[[LogWriter], Coroutine[Any, Any, None]],
    *,
    service: str,
    queue_max: int,
    refused_for: tuple[type[Exception], ...],
) -> None:
    """Run the process to its end, with its log on stderr. Its name there is `service`, or OTEL_SERVICE_NAME.

    An error of `refused_for` ends the command with its text and exit code 1, `StoppedItself` with exit code 4. Any
    other error is raised.
    """
    import asyncio

    from deploy import logs, start_errors
    from deploy import process as deploy_process

    _disable_core_dumps()
    log_writer = logs.LogWriter(
        sys.stderr,
        console=sys.stderr.isatty(),
        queue_max=queue_max,
        service=os.environ.get("OTEL_SERVICE_NAME") or service,
        version=deploy_process.version_text(),
    )
    logs.capture_standard_logging(log_writer)
    log_writer.start()
    try:
        with asyncio.Runner(loop_factory=deploy_process.loop_factory()) as runner:
            runner.run(process(log_writer))
    except deploy_process.StoppedItself as error:
        refuse("stopped itself, and has to be restarted", [str(error)], exits.STOPPED_ITSELF)
    except refused_for as error:
        refuse("cannot start", start_errors.fault_lines(error), exits.FAILED)
    finally:
        log_writer.close()


def _disable_core_dumps() -> None:
    """Write no core dump after a crash, because secrets and payers' data are in memory."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
