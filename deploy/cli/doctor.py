"""`alipay-notify doctor`: what is wrong here, and what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import exits, shown

_HELP = """Look at what could keep payments from being taken: settings, accounts, keys, data, disk, clock, ports.

It takes its settings as `up` does, changes nothing, and says of each thing what is wrong and what to do.

    alipay-notify doctor
    alipay-notify doctor --accounts /etc/alipay-notify/accounts.toml --output json
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command("doctor", help=_HELP, epilog=exits.EPILOG)(doctor)


def doctor(
    accounts: Annotated[
        Path | None, typer.Option(readable=False, envvar="ALIPAY_NOTIFY_ACCOUNTS", help="The accounts' configuration.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(readable=False, envvar="ALIPAY_NOTIFY_DATA_DIR", help="Where the engine keeps its files."),
    ] = None,
    output: shown.Output = "table",
) -> None:
    """Looks, tells, and ends with 3 where something is wrong."""
    from deploy import examination

    environ = dict(os.environ)
    for name, given in (("ACCOUNTS", accounts), ("DATA_DIR", data_dir)):
        if given is not None:
            environ[f"ALIPAY_NOTIFY_{name}"] = str(given)
    findings = examination.examine(environ)
    wrong = [finding for finding in findings if finding.state is examination.State.WRONG]
    if output == "json":
        rows = [{name: str(getattr(each, name)) for name in each.__struct_fields__} for each in findings]
        shown.as_json({"ok": not wrong, "findings": rows})
    else:
        columns = ("", "what", "how it is", "what to do")
        shown.table("", columns, [(each.state.value, each.name, each.detail, each.advice) for each in findings])
    raise typer.Exit(exits.FOUND_WRONG if wrong else exits.DONE)
