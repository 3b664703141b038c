"""`alipay-notify find`: the orders and notifications with a number, of whatever kind."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy import exits
from deploy.cli import admin, terminal
from deploy.cli.admin import AdminApiError, AdminClient

_HELP = """Find orders and notifications by a number.

NO is an order, trade or refund number, a notification's id, or the number of an
agreement, a pre-authorisation, a transfer, a dispute, a subscription or a batch.
Held notifications are found too. One that is ambiguous may name the number, or
may not: that is a claim only.

    alipay-notify find 20265225715271617440
    alipay-notify find CONTRACT-31 --output json
"""
_EPILOG = "Exit codes: 0 found, 1 failed (no answer from the server, or nothing has this number), 2 wrong usage."


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("find", help=_HELP, epilog=_EPILOG)(find)


def find(
    number: Annotated[str, typer.Argument(metavar="NO", help="The whole number.")],
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Print the orders and notifications; a single notification in full."""
    api = AdminClient(url, token=token)
    try:
        found = api.get("find", number=number)
        orders, notifications = found["matches"], found["notifications"]
        if not orders and not notifications:
            terminal.fail(f"Nothing has the number {number}. Give the whole number; it is compared exactly.")
        single = api.get("notifications", notifications[0]["id"]) if len(notifications) == 1 else None
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(found if single is None else found | {"notifications": [single]})
        raise typer.Exit(exits.DONE)
    for order in orders:
        terminal.line("Order", f"{admin.owner(order)} : {order['order']}")
    if single is not None:
        _print(single)
    elif notifications:
        columns = ("received (UTC)", "account", "type", "status", "disposition", "id")
        terminal.table("", columns, [_row(each) for each in notifications])


def _row(each: dict[str, Any]) -> tuple[object, ...]:
    received_at = terminal.moment(each["received_at"])
    disposition = f"{each['disposition']}, a claim only" if each["reason"] == "ambiguous" else each["disposition"]
    return received_at, admin.owner(each), each["type"], each["status"], disposition, each["notification_id"]


def _print(each: dict[str, Any]) -> None:
    terminal.line("Notification", each["notification_id"])
    terminal.line("Account", admin.owner(each))
    terminal.line("Kind", each["kind"] or "unknown: its bytes cannot be read")
    terminal.line("Type", " ".join(part for part in (each["type"], each["status"]) if part))
    terminal.line("Disposition", f"{each['disposition']}: {each['reason']}")
    if each["reason"] == "ambiguous":
        terminal.line("Claim only", "its signature also fits other numbers, so it may name these, or may not")
    for named in each["numbers"]:
        terminal.line("Number", f"{named['number']} ({named['kind']})")
    for name, value in each["fields"].items():
        terminal.line("Field", f"{name} = {value}")
    terminal.line("Received", f"{terminal.moment(each['received_at'])} UTC")
    terminal.line("Record", each["id"])
