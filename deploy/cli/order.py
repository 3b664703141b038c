"""`alipay-notify order`: what happened to one order, and what the merchant expects of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy import exits
from deploy.cli import admin, terminal
from deploy.cli.admin import AdminClient, Trouble

HELD = frozenset({"parked", "quarantined", "dead"})

_SHOW_HELP = """Was it paid? Everything that is known of one order, on one screen.

    alipay-notify order show 8121000345
    alipay-notify order show 8121000345 --account shop-sg --output json
    alipay-notify order show 2026012022001421580234567890     (Alipay's trade number, or a notify_id)
"""

_REGISTER_HELP = """Say what an order costs, before it is paid: what is paid is compared with it.

    alipay-notify order register 8121000345 --account shop-sg --amount 12.80 --currency USD
    alipay-notify order register 8121000345 --account shop-sg --refund REF-1
"""


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    group = typer.Typer(help="One order: show it, or register what it costs.", no_args_is_help=True)
    group.command("show", help=_SHOW_HELP, epilog=exits.EPILOG_ORDER)(show)
    group.command("register", help=_REGISTER_HELP, epilog=exits.EPILOG_READING)(register_order)
    app.add_typer(group, name="order")


def show(
    number: Annotated[str, typer.Argument(metavar="NO", help="An order, trade or notification number.")],
    account: Annotated[str, typer.Option(help="Whose order; else every account's.")] = "",
    url: admin.Url = admin.DEFAULT_URL,
    output: terminal.Output = "table",
) -> None:
    """Shows one order; where several are meant, lists them."""
    api = AdminClient(url)
    try:
        found = [(account, number)] if account else _found(api, number)
        if len(found) > 1:
            terminal.fail(
                "Several orders have this number: say --account. " + terminal.words(f"{a}:{o}" for a, o in found)
            )
        order = api.get("orders", *found[0])
    except Trouble as trouble:
        admin.fail(trouble)
    if output == "json":
        terminal.as_json(order)
    else:
        _print(order)
    raise typer.Exit(exits.FOUND_WRONG if _is_wrong(order) else exits.DONE)


def register_order(
    number: Annotated[str, typer.Argument(metavar="NO", help="The order's number.")],
    account: Annotated[str, typer.Option(help="Whose order.")],
    amount: Annotated[str, typer.Option(help="What it costs, as 12.80.")] = "",
    currency: Annotated[str, typer.Option(help="In which currency; else the account's.")] = "",
    refund: Annotated[list[str] | None, typer.Option(help="The number of a refund that was asked for.")] = None,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Registers an order."""
    if not amount and not refund:
        raise typer.BadParameter("say what it costs, --amount 12.80, or which refund you asked for, --refund REF-1")
    given = {"amount": amount, "currency": currency, "refunds": refund}
    body = {name: value for name, value in given.items() if value} | {"by": admin.me()}
    try:
        order = AdminClient(url, token=token).send("PUT", "orders", account, number, body=body)
    except Trouble as trouble:
        admin.fail(trouble)
    if output == "json":
        terminal.as_json(order)
    else:
        _print(order)


def _found(api: AdminClient, number: str) -> list[tuple[str, str]]:
    matches = api.get("find", number=number)["matches"]
    if not matches:
        terminal.fail(
            f"Nothing is known of {number}. With --account NAME refused requests are looked through too; "
            "`alipay-notify held list` shows what could not be applied."
        )
    return [(match["account"], match["order"]) for match in matches]


def _is_wrong(order: dict[str, Any]) -> bool:
    """A flag stands against it, or one of its notifications waits for somebody."""
    return bool(order["flags"]) or any(
        entry["kind"] == "notification" and entry["disposition"] in HELD for entry in order["timeline"]
    )


def _print(order: dict[str, Any]) -> None:
    terminal.line("Order", f"{order['account']} : {order['order']}")
    terminal.line("Status", order["status"] or "unknown: there are only held or refused notifications")
    if order["amount"] is not None:
        terminal.line("Amount", f"{order['amount']} {order['currency']}")
    if order["refunded_minor"]:
        terminal.line("Refunded", f"{order['refunded']} {order['currency']}")
    if order["expected"] is not None:
        terminal.line("Expected", f"{order['expected']} {order['expected_currency']}")
    if order["closed_because"]:
        terminal.line("Closed", order["closed_because"])
    if order["trade"]:
        terminal.line("Trade", order["trade"])
    if order["flags"]:
        terminal.line("Flags", terminal.words(order["flags"]))
    terminal.line("Version", order["version"])
    if order["timeline"]:
        columns = ("time (UTC)", "what", "", "why", "version", "id")
        terminal.table("", columns, [_row(entry) for entry in order["timeline"]])


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    if entry["kind"] == "event":
        sent = "sent" if entry["sent_at"] else "not sent yet"
        return terminal.moment(entry["occurred_at"]), f"→ {entry['type']}", sent, "", entry["version"], entry["id"]
    if entry["kind"] == "refused":
        return terminal.moment(entry["at"]), "request refused", "refused", entry["reason"], "", ""
    why = entry["reason"] + (f": {entry['detail']}" if entry["detail"] else "")
    news = f" ({entry['news'].replace('_', ' ')})" if entry["news"] else ""
    what = (entry["status"] or entry["type"] or "unreadable") + news
    received_at = terminal.moment(entry["received_at"])
    return received_at, what, entry["disposition"], why, entry["version"], entry["notification_id"]
