"""`alipay-notify held tasks`: replay, accept or discard many held notifications. It is done in the worker.

A task is in the order store. The command only watches it, so that Ctrl-C or a lost connection changes nothing.
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

_LIST_HELP = """List the newest tasks over many held notifications.

`held replay` with filters starts one, and so do `held accept` and `held discard` with several ids. It runs in the
worker and survives restarts.

    alipay-notify held tasks
    alipay-notify held tasks --limit 100 --before 31
    alipay-notify held tasks show 7
    alipay-notify held tasks cancel 7
    alipay-notify held tasks resume 7
"""
_SHOW_HELP = """Show one task: its progress, and why rows are still held.

    alipay-notify held tasks show 7 --output json
"""
_CANCEL_HELP = """Cancel a running task. Rows that it has done with stay as they are.

    alipay-notify held tasks cancel 7 --reason "too many fail"
"""
_RESUME_HELP = """Continue a cancelled task where it stopped.

    alipay-notify held tasks resume 7
"""

Number = Annotated[int, typer.Argument(metavar="ID", min=1, help="The number that `held tasks` shows.")]


def register(group: typer.Typer) -> None:
    """Add the commands to the group `held`."""
    tasks = typer.Typer(help=_LIST_HELP, epilog=exits.EPILOG_READING, invoke_without_command=True)
    tasks.callback()(list_tasks)
    tasks.command("show", help=_SHOW_HELP, epilog=exits.EPILOG_READING)(show)
    tasks.command("cancel", help=_CANCEL_HELP, epilog=exits.EPILOG_READING)(cancel)
    tasks.command("resume", help=_RESUME_HELP, epilog=exits.EPILOG_READING)(resume)
    group.add_typer(tasks, name="tasks")
    group.add_typer(tasks, name="replays", hidden=True)  # the older name


def list_tasks(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Largest number of tasks.")] = 20,
    before: Annotated[int | None, typer.Option(min=1, help="Only those below this id: the next page.")] = None,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """List tasks, newest first."""
    if context.invoked_subcommand is not None:
        return
    try:
        answer = AdminClient(url, token=token).get("held", "tasks", limit=limit, before=before)
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(answer)
    elif not answer["tasks"]:
        terminal.note("No task was started.")
    else:
        columns = ("id", "action", "state", "done", "applied", "known", "held", "failed", "started (UTC)", "by")
        terminal.table("", columns, [_row(task) for task in answer["tasks"]])
        if answer.get("more"):  # a server of an earlier release does not count them
            terminal.note(f"{answer['more']:,} more: --before {answer['tasks'][-1]['id']}")


def show(
    number: Number, url: admin.Url = admin.DEFAULT_URL, token: admin.Token = "", output: terminal.Output = "table"
) -> None:
    """Show one."""
    try:
        task = AdminClient(url, token=token).get("held", "tasks", str(number))
    except AdminApiError as error:
        admin.fail(error)
    print_task(task, output)


def cancel(
    number: Number,
    reason: admin.Why = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Cancel one."""
    _switch(AdminClient(url, token=token), number, "cancel", reason, output)


def resume(
    number: Number,
    reason: admin.Why = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Resume one."""
    _switch(AdminClient(url, token=token), number, "resume", reason, output)


def start(api: AdminClient, rows: Mapping[str, Any], *, rate: int, why: str, is_waiting: bool, output: str) -> int:
    """Start a task over these rows (filters, or `action` and `ids`), and follow it to its end if `is_waiting`.

    Return the exit code.

    Raises:
        AdminApiError: it could not be started, or the server no longer answers.
    """
    body = {**rows, "rate": rate, "reason": why, "by": api.operator()}
    task = api.send("POST", "held", "tasks", body=body)
    if is_waiting:
        task = _followed(api, task)
    print_task(task, output)
    if task["state"] == "cancelled":
        return exits.FAILED
    return exits.FOUND_WRONG if task["failures"] or task["held_again"] or task["failed"] else exits.DONE


def matching(api: AdminClient, filters: Mapping[str, str]) -> dict[str, Any]:
    """Return the first page and the count of the rows that a replay with these filters would retry.

    `snoozed` is the number of those that it leaves out.
    """
    query = {"reason" if name == "held_reason" else name: value for name, value in filters.items()}
    return api.get("held", **query, snoozed="false", limit=50)


def print_left_out(matching: Mapping[str, Any]) -> None:
    """Say on stderr how many snoozed ones match and are left out; a server of an earlier release counts none."""
    if matching.get("snoozed"):
        terminal.note(f"{matching['snoozed']:,} snoozed are left out; replay them by their ids.")


def confirm(total: int) -> None:
    """Ask for the number before a very large task, if there is a person to ask."""
    if total > CONFIRM_ABOVE and sys.stdin.isatty():
        terminal.confirm(total, f"This changes {total:,} notifications")


def print_task(task: dict[str, Any], output: str) -> None:
    """Print one task."""
    if output == "json":
        terminal.as_json(task)
        return
    terminal.line("Task", f"{task['id']}, {task['action']}, {task['state']}")
    terminal.line("Filter", terminal.joined(f"{name} {value}" for name, value in task["filter"].items()))
    terminal.line("Done", f"{task['done']:,} of {task['total']:,}, {task['rate']} a second")
    if task["action"] == "replay":
        terminal.line("applied", task["applied"])
        terminal.line("known", task["duplicate"] + task["stale"])
        terminal.line("held again", task["held_again"])
        terminal.line("failed", task["failed"])
    else:
        terminal.line(f"{task['action']}ed", task["decided"])
        terminal.line("refused", sum(task["failures"].values()))
    for reason, count in sorted(task["failures"].items(), key=lambda each: -each[1]):
        terminal.line("still held", f"{count:,} {reason}")
    terminal.line("By", f"{task['by']}: {task['why']}")


def _followed(api: AdminClient, task: dict[str, Any]) -> dict[str, Any]:
    number = str(task["id"])
    try:
        with terminal.progress(f"Task {number}", task["total"]) as advance:
            shown = 0
            while task["state"] == "running":
                time.sleep(LOOK_EVERY_S)
                task = api.get("held", "tasks", number)
                advance(task["done"] - shown)
                shown = task["done"]
    except KeyboardInterrupt:
        typer.echo("", err=True)
        terminal.note(f"Task {number} goes on. Cancel it with: alipay-notify held tasks cancel {number}")
        raise typer.Exit(exits.FAILED) from None
    return task


def _switch(api: AdminClient, number: int, verb: str, reason: str, output: str) -> None:
    task = admin.act(api, "held", "tasks", str(number), verb, reason=reason)
    print_task(task, output)


def _row(task: dict[str, Any]) -> tuple[object, ...]:
    is_replay = task["action"] == "replay"
    return (
        task["id"], task["action"], task["state"], f"{task['done']:,}/{task['total']:,}",
        task["applied"] if is_replay else task["decided"], task["duplicate"] + task["stale"], task["held_again"],
        task["failed"] if is_replay else sum(task["failures"].values()),
        terminal.moment(task["started_at"]), task["by"],
    )  # fmt: skip
