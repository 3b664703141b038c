"""`alipay-notify held replays`: replays of many held notifications. They run in the worker.

A replay is a task in the order store. The command only watches it, so that Ctrl-C or a lost connection changes nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from deploy import exits
from deploy.cli import admin, terminal
from deploy.cli.admin import AdminApiError, AdminClient

LOOK_EVERY_S = 0.5
CONFIRM_ABOVE = 1000

_LIST_HELP = """List the newest replays of held notifications, with their progress.

`held replay` with filters starts one. It runs in the worker and survives restarts.

    alipay-notify held replays
    alipay-notify held replays show 7
    alipay-notify held replays cancel 7
    alipay-notify held replays resume 7
"""
_SHOW_HELP = """Show one replay and its progress.

    alipay-notify held replays show 7 --output json
"""
_CANCEL_HELP = """Cancel a running replay. Rows that it has retried stay as they are.

    alipay-notify held replays cancel 7 --reason "too many fail"
"""
_RESUME_HELP = """Continue a cancelled replay where it stopped.

    alipay-notify held replays resume 7
"""

Number = Annotated[int, typer.Argument(metavar="ID", min=1, help="The number that `held replays` shows.")]
Why = Annotated[str, typer.Option("--reason", "--why", help="The reason, for the audit record.")]


def register(group: typer.Typer) -> None:
    """Add the commands to the group `held`."""
    replays = typer.Typer(help=_LIST_HELP, epilog=exits.EPILOG_READING, invoke_without_command=True)
    replays.callback()(list_replays)
    replays.command("show", help=_SHOW_HELP, epilog=exits.EPILOG_READING)(show)
    replays.command("cancel", help=_CANCEL_HELP, epilog=exits.EPILOG_READING)(cancel)
    replays.command("resume", help=_RESUME_HELP, epilog=exits.EPILOG_READING)(resume)
    group.add_typer(replays, name="replays")


def list_replays(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Largest number of replays.")] = 20,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """List replays, newest first."""
    if context.invoked_subcommand is not None:
        return
    try:
        answer = AdminClient(url, token=token).get("held", "replays", limit=limit)
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(answer)
    elif not answer["replays"]:
        typer.echo("No replay was started.", err=True)
    else:
        columns = ("id", "state", "done", "applied", "known", "held", "failed", "started (UTC)", "by")
        terminal.table("", columns, [_row(replay) for replay in answer["replays"]])


def show(
    number: Number, url: admin.Url = admin.DEFAULT_URL, token: admin.Token = "", output: terminal.Output = "table"
) -> None:
    """Show one."""
    try:
        replay = AdminClient(url, token=token).get("held", "replays", str(number))
    except AdminApiError as error:
        admin.fail(error)
    print_replay(replay, output)


def cancel(
    number: Number,
    reason: Why = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Cancel one."""
    _switch(AdminClient(url, token=token), number, "cancel", reason, output)


def resume(
    number: Number,
    reason: Why = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Resume one."""
    _switch(AdminClient(url, token=token), number, "resume", reason, output)


def start(api: AdminClient, filters: Mapping[str, str], *, rate: int, why: str, is_waiting: bool, output: str) -> int:
    """Start a replay, and follow it to its end if `is_waiting`. Return the exit code.

    Raises:
        AdminApiError: it could not be started, or the server no longer answers.
    """
    body = {**filters, "rate": rate, "reason": why, "by": admin.operator()}
    replay = api.send("POST", "held", "replays", body=body)
    if is_waiting:
        replay = _followed(api, replay)
    print_replay(replay, output)
    if replay["state"] == "cancelled":
        return exits.FAILED
    return exits.FOUND_WRONG if replay["held_again"] or replay["failed"] else exits.DONE


def matching(api: AdminClient, filters: Mapping[str, str]) -> dict[str, Any]:
    """Return the first page and the count of the rows that a replay with these filters would retry."""
    query = {"reason" if name == "held_reason" else name: value for name, value in filters.items()}
    return api.get("held", **query, limit=50)


def confirm(total: int) -> None:
    """Ask for the number before a very large replay, if there is a person to ask."""
    if total > CONFIRM_ABOVE and sys.stdin.isatty():
        given = typer.prompt(f"This retries {total:,} notifications. Type the number to go on", err=True)
        if given.replace(",", "").strip() != str(total):
            terminal.fail("That is another number; nothing was done.")


def print_replay(replay: dict[str, Any], output: str) -> None:
    """Print one replay."""
    if output == "json":
        terminal.as_json(replay)
        return
    terminal.line("Replay", f"{replay['id']}, {replay['state']}")
    terminal.line("Filter", terminal.joined(f"{name} {value}" for name, value in replay["filter"].items()))
    terminal.line("Done", f"{replay['done']:,} of {replay['total']:,}, {replay['rate']} a second")
    terminal.line("applied", replay["applied"])
    terminal.line("known", replay["duplicate"] + replay["stale"])
    terminal.line("held again", replay["held_again"])
    terminal.line("failed", replay["failed"])
    terminal.line("By", f"{replay['by']}: {replay['why']}")


def _followed(api: AdminClient, replay: dict[str, Any]) -> dict[str, Any]:
    number = str(replay["id"])
    try:
        with terminal.progress(f"Replay {number}", replay["total"]) as advance:
            shown = 0
            while replay["state"] == "running":
                time.sleep(LOOK_EVERY_S)
                replay = api.get("held", "replays", number)
                advance(replay["done"] - shown)
                shown = replay["done"]
    except KeyboardInterrupt:
        typer.echo(f"\nReplay {number} goes on. Cancel it with: alipay-notify held replays cancel {number}", err=True)
        raise typer.Exit(exits.FAILED) from None
    return replay


def _switch(api: AdminClient, number: int, verb: str, reason: str, output: str) -> None:
    audit = {"reason": reason, "by": admin.operator()}
    try:
        replay = api.send("POST", "held", "replays", str(number), verb, body=audit)
    except AdminApiError as error:
        admin.fail(error)
    print_replay(replay, output)


def _row(replay: dict[str, Any]) -> tuple[object, ...]:
    return (
        replay["id"], replay["state"], f"{replay['done']:,}/{replay['total']:,}", replay["applied"],
        replay["duplicate"] + replay["stale"], replay["held_again"], replay["failed"],
        terminal.moment(replay["started_at"]), replay["by"],
    )  # fmt: skip
