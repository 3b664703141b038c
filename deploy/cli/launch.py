"""How a command starts a process that runs until it is told to end: its log, its loop, and how it is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from deploy import exits

if TYPE_CHECKING:
    from deploy.logs import LogWriter


def refuse(why: str, faults: list[str], code: int) -> NoReturn:
    """Name every fault, and end."""
    typer.echo(f"alipay-notify {why}:", err=True)
    for fault in faults:
        typer.echo(f"  - {fault}", err=True)
    raise typer.Exit(code)


def need(*modules: str, extra: str) -> None:
    """Name what to install where a module is missing."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        install = f"uv tool install 'alipay-notify[{extra}]', or pip install it"
        refuse("needs more", [f"{module} is missing: {install}" for module in missing], exits.FAILED)


def run(
    process: Callable[[LogWriter], Coroutine[Any, Any, None]],
    *,
    queue_max: int,
    refused_for: tuple[type[Exception], ...],
) -> None:
    """Run the process to its end, with its log on stderr; what it is refused for is told, and anything else raised."""
    import asyncio

    from deploy import logs, start_errors
    from deploy import process as deploy_process

    _leave_no_core()
    lines = logs.LogWriter(sys.stderr, console=sys.stderr.isatty(), queue_max=queue_max)
    logs.capture_standard_logging(lines)
    lines.start()
    try:
        with asyncio.Runner(loop_factory=deploy_process.factory()) as runner:
            runner.run(process(lines))
    except refused_for as error:
        refuse("cannot start", start_errors.told(error), exits.FAILED)
    finally:
        lines.close()


def _leave_no_core() -> None:
    """A process that dies of its libraries leaves no image of its memory behind: secrets and payers are in it."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
