"""`alipay-notify order`: show the history of one order, or register its amounts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Annotated, Any

import typer

from deploy import exits
from deploy.cli import admin, terminal
from deploy.cli.admin import AdminApiError, AdminClient

HELD = frozenset({"parked", "quarantined", "dead"})
_TYPE = re.compile(r"^.+\.(order\.\w+)\.v\d+$")  # of an event; its prefix is the same in all, and may be long

_SHOW_HELP = """Show one order: status, amounts, notifications and events.

NO is the merchant's order number, Alipay's trade number, or a notification's id.

    alipay-notify order show 8121000345
    alipay-notify order show 8121000345 --account shop-sg --output json
    alipay-notify order show 2026012022001421580234567890
"""

_REGISTER_HELP = """Register an order's amount before it is paid.

A payment of another amount is then quarantined. An account with orders = "registered" applies a payment only after its
order is registered. --refund registers the number of a refund that you have requested.

Alipay may report an order that was priced in RMB in another currency. Give one --amount per currency then. --any-amount
registers an order of which every amount is accepted.

    alipay-notify order register 8121000345 --account shop-sg --amount 12.80
    alipay-notify order register W-1 --account web \\
        --amount "80.00 CNY" --amount "11.20 USD"
    alipay-notify order register 8121000345 --account shop-sg --refund REF-1
    alipay-notify order register A1 --account isv \\
        --auth-app-id 2021000000000008 --amount 12.80
"""

_ERASE_HELP = """Erase the buyer's data from an order's notifications.

Names, ids, free text and the signature leave the stored bytes of its settled notifications, for example because the
buyer asks for it. The order's state, numbers and amounts stay, and copies are recognised as before; a signature cannot
be verified any more. Held notifications keep their bytes until they are resolved. The Kafka log keeps its own for the
topic's retention. This is final: without --yes it only counts. The reason and your user name are recorded.

    alipay-notify order erase 8121000345 --account shop-sg
    alipay-notify order erase 8121000345 --account shop-sg --yes \\
        --reason "asked on 3 May"
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="Show an order, or register its amount.", no_args_is_help=True)
    group.command("show", help=_SHOW_HELP, epilog=exits.EPILOG_ORDER)(show)
    group.command("register", help=_REGISTER_HELP, epilog=exits.EPILOG_READING)(register_order)
    group.command("erase", help=_ERASE_HELP, epilog=exits.EPILOG_READING)(erase)
    app.add_typer(group, name="order")


def show(
    number: Annotated[str, typer.Argument(metavar="NO", help="An order, trade or notification number.")],
    account: Annotated[str, typer.Option(help="Only this account; otherwise all accounts.")] = "",
    auth_app_id: admin.AuthAppId = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Show one order; if several match, list them."""
    api = AdminClient(url, token=token)
    try:
        found = [{"account": account, "order": number, "auth_app_id": auth_app_id}] if account else _find(api, number)
        if len(found) > 1:
            terminal.fail(
                "Several orders have this number. Show one by its own number, with --account if two accounts have it, "
                "and --auth-app-id if two merchants have it: "
                + terminal.joined(f"{admin.owner(match)}:{match['order']}" for match in found)
            )
        match = found[0]
        order = api.get("orders", match["account"], match["order"], auth_app_id=match.get("auth_app_id") or None)
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(order)
    else:
        _print(order)
    raise typer.Exit(exits.FOUND_WRONG if _has_problem(order) else exits.DONE)


def register_order(
    number: Annotated[str, typer.Argument(metavar="NO", help="The order's number.")],
    account: Annotated[str, typer.Option(help="The account that the order belongs to.")],
    auth_app_id: admin.AuthAppId = "",
    amount: Annotated[
        list[str] | None, typer.Option(help='The order\'s amount, such as 12.80 or "12.80 USD"; one per currency.')
    ] = None,
    currency: Annotated[str, typer.Option(help="The amount's currency; otherwise the account's.")] = "",
    any_amount: Annotated[bool, typer.Option("--any-amount", help="Accept every amount.")] = False,
    refund: Annotated[list[str] | None, typer.Option(help="The number of a refund that you have requested.")] = None,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Register an order."""
    if not amount and not refund and not any_amount:
        raise typer.BadParameter("give the order's amount with --amount 12.80, or a refund with --refund REF-1")
    if any_amount and (amount or currency):
        raise typer.BadParameter("--any-amount accepts every amount: leave out --amount and --currency")
    body = {"amounts": []} if any_amount else _amounts(amount or [], currency)
    api = AdminClient(url, token=token)
    body |= ({"refunds": refund} if refund else {}) | {"by": api.operator()}
    try:
        query = {"auth_app_id": auth_app_id} if auth_app_id else None
        order = api.send("PUT", "orders", account, number, body=body, query=query)
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(order)
    else:
        _print(order)


def erase(
    number: Annotated[str, typer.Argument(metavar="NO", help="The order's number.")],
    account: Annotated[str, typer.Option(help="The account that the order belongs to.")],
    auth_app_id: admin.AuthAppId = "",
    reason: Annotated[str, typer.Option(help="Why, for the audit record.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Erase; without it, a dry run.")] = False,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Erase one order's personal data."""
    if yes and not reason.strip():
        raise typer.BadParameter("--yes needs a reason for the audit record", param_hint="--reason")
    api = AdminClient(url, token=token)
    query = {"auth_app_id": auth_app_id} if auth_app_id else None
    try:
        if not yes:
            order = api.get("orders", account, number, auth_app_id=auth_app_id or None)
            _print_dry_run(order, output)
            return
        body = {"reason": reason, "by": api.operator()}
        done = api.send("POST", "orders", account, number, "erase", body=body, query=query)
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(done)
        return
    terminal.line("Erased", f"{done['erased']:,} notifications")
    if done["held"]:
        terminal.line("Held", f"{terminal.joined(done['held'])}: they keep their bytes until they are resolved")
    if done["more"]:
        terminal.line("More", "some are left: run it again")


def _print_dry_run(order: dict[str, Any], output: str) -> None:
    kept = [entry for entry in order["timeline"] if entry["kind"] == "notification" and not entry.get("erased_at")]
    if output == "json":
        terminal.as_json({"dry_run": True, "notifications": len(kept)})
    else:
        terminal.line("Dry run", f"{len(kept):,} notifications still have personal data; --yes erases it for good")


def _amounts(texts: list[str], currency: str) -> dict[str, Any]:
    """Return the part of a registration for one amount, or for several."""
    amounts = []
    for text in texts:
        amount, _, code = text.strip().partition(" ")
        if code and currency:
            raise typer.BadParameter("give the currency in --amount or as --currency, not both")
        amounts.append({name: value for name, value in (("amount", amount), ("currency", code or currency)) if value})
    if len(amounts) > 1:
        return {"amounts": amounts}
    return amounts[0] if amounts else {name: value for name, value in (("currency", currency),) if value}


def _find(api: AdminClient, number: str) -> list[dict[str, str]]:
    found = api.get("find", number=number)
    matches: list[dict[str, str]] = found["matches"]
    if not matches and found["notifications"]:
        terminal.fail(f"No order has the number {number}, but a notification. `alipay-notify find {number}` shows it.")
    if not matches:
        terminal.fail(
            f"Nothing is known of {number}. Add --account NAME to search refused requests too. "
            "`alipay-notify held list` shows notifications that were not applied."
        )
    return matches


def _has_problem(order: dict[str, Any]) -> bool:
    """Return whether the order has a flag, or a held notification that no operator has ended."""
    ended = {entry["held_id"] for entry in order["timeline"] if entry["kind"] == "decision"}
    return bool(order["flags"]) or any(
        entry["kind"] == "notification" and entry["disposition"] in HELD and entry["position"] not in ended
        for entry in order["timeline"]
    )


def _print(order: dict[str, Any]) -> None:
    terminal.line("Order", f"{admin.owner(order)} : {order['order']}")
    terminal.line("Status", order["status"] or "unknown: only held or refused notifications name this order")
    if order["amount"] is not None:
        terminal.line("Amount", _amount(order, "amount", "amount_minor", "currency"))
    if order["authorized_minor"] is not None:
        until = terminal.moment(order["authorized_until"])
        amount = _amount(order, "authorized", "authorized_minor", "currency")
        terminal.line("Authorised", f"{amount}, until {until} UTC")
    if order["refunded_minor"]:
        refunded = _amount(order, "refunded", "refunded_minor", "currency")
        if order["refund_accepted_minor"] is not None:
            accepted = _amount(order, "refund_accepted", "refund_accepted_minor", "currency")
            refunded += f" of {accepted} that were accepted as refunded"
        terminal.line("Refunded", refunded)
    amounts = [_amount(each, "amount", "amount_minor", "currency") for each in order["expected_amounts"]]
    if amounts or order["registered"]:
        terminal.line("Expected", terminal.joined(amounts) or "any amount")
    if order["closed_because"]:
        terminal.line("Closed", order["closed_because"])
    if order["trade"]:
        terminal.line("Trade", order["trade"])
    if order["flags"]:
        terminal.line("Flags", terminal.joined(order["flags"]))
    terminal.line("Version", order["version"])
    if order["timeline"]:
        columns = ("time (UTC)", "what", "", "why", "version", "id")
        terminal.table("", columns, _rows(order["timeline"]))


def _rows(timeline: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    """Yield the rows of the timeline. Copies of one notification that follow each other are one row."""
    for _, group in groupby(enumerate(timeline), key=lambda each: _copy_of(each[1]) or each[0]):
        entries = [entry for _, entry in group]
        at, what, state, why, version, id_ = _row(entries[0])
        if len(entries) > 1:
            why = f"{why}, {len(entries)} times until {terminal.moment(entries[-1]['received_at'])}"
        yield at, what, state, why, version, id_
        for entry in entries:
            yield from _steps(entry)


def _copy_of(entry: dict[str, Any]) -> tuple[object, ...] | None:
    """Return what is the same in all copies of a notification; `None` if this is no copy."""
    if entry["kind"] != "notification" or entry["disposition"] != "duplicate" or entry.get("steps"):
        return None
    return entry["notification_id"], entry["reason"], entry["detail"], entry.get("erased_at")


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    if entry["kind"] == "event":
        sent = "sent" if entry["sent_at"] else "not sent yet"
        type_ = _TYPE.sub(r"\1", entry["type"])
        return terminal.moment(entry["occurred_at"]), f"→ {type_}", sent, "", entry["version"], entry["id"]
    if entry["kind"] == "registered":
        return terminal.moment(entry["at"]), "registered", "", f"{entry['by']}: {entry['what']}", "", ""
    if entry["kind"] == "erased":
        return terminal.moment(entry["at"]), "personal data erased", "", f"{entry['by']}: {entry['why']}", "", ""
    if entry["kind"] == "resent":
        return _resent(entry)
    if entry["kind"] == "refused":
        id_ = entry.get("notification_id", "")  # a server of an earlier release has none
        return terminal.moment(entry["at"]), "request refused", "refused", _refused(entry), "", id_
    if entry["kind"] == "decision":
        names = {"accept": "accepted", "discard": "discarded", "refund_outside": "refunded outside"}
        done = names.get(entry["action"], entry["action"])
        if entry.get("refunded_minor") is not None:
            sum_ = entry["refunded"] or f"{entry['refunded_minor']} smallest units of"
            done = f"{done}: {sum_} {entry['currency']}"
        why = f"{entry['by']}: {entry['why']}"
        return terminal.moment(entry["at"]), "decision", done, why, entry["version"], entry["held_id"]
    if entry["kind"] not in ("notification", "claim"):  # of a newer server
        return terminal.moment(entry.get("at")), entry["kind"], "", "", "", ""
    why = entry["reason"] + (f": {entry['detail']}" if entry["detail"] else "")
    if entry["kind"] == "claim":
        state = entry["resolution"] or "quarantined"
        what = "a claim only: it may name this order"
        return terminal.moment(entry["received_at"]), what, state, why, "", entry["notification_id"]
    if entry.get("erased_at"):
        why += f"; bytes erased on {entry['erased_at'][:10]}, so it cannot be verified"
    event = f" ({entry['news'].replace('_', ' ')})" if entry["news"] else ""
    asked = "asked Alipay: " if entry.get("is_answer") else ""  # a server of an earlier release does not have it
    what = asked + (entry["status"] or entry["type"] or "unreadable") + event
    received_at = terminal.moment(entry["received_at"])
    return received_at, what, entry["disposition"], why, entry["version"], entry["notification_id"]


def _resent(entry: dict[str, Any]) -> tuple[object, ...]:
    """Return the row of events that an operator had sent again."""
    what = "events sent again" + (f" to {entry['endpoint']}" if entry["endpoint"] else "")
    first, last = (entry["versions"] or [""])[0], (entry["versions"] or [""])[-1]
    versions = first if first == last else f"{first}–{last}"
    return terminal.moment(entry["at"]), what, "", f"{entry['by']}: {entry['why']}", versions, ""


def _refused(entry: dict[str, Any]) -> str:
    """Return why a request was refused, and what follows if it is Alipay's: anyone can send one that is refused."""
    if entry.get("is_accepted"):
        return f"{entry['reason']}; accepted later"
    if entry.get("next_at") is None:
        return str(entry["reason"])
    next_, last = terminal.moment(entry["next_at"]), terminal.moment(entry["gives_up_at"])
    return f"{entry['reason']}; if it is Alipay's, it comes again at {next_}, and for the last time at {last}"


def _steps(entry: dict[str, Any]) -> list[tuple[object, ...]]:
    """Return the way of a notification that was held; how it stands now is in its own row."""
    rows: list[tuple[object, ...]] = []
    for step in entry.get("steps", ()):
        at = terminal.moment(step["at"])
        if step["kind"] == "held" and entry["disposition"] not in HELD:
            retries = f", retried {step['attempts']} times" if step["attempts"] else ""
            rows.append((at, "· held", step["disposition"], f"{step['reason']}: {step['detail']}{retries}", "", ""))
        elif step["kind"] == "replay":
            rows.append((at, "· replayed", "", f"{step['by']}: {step['why']}", "", ""))
        elif step["kind"] == "snooze":
            until = f"until {terminal.moment(step['until'])}, " if step["until"] else ""
            rows.append((at, "· snoozed", "", f"{until}{step['by']}: {step['why']}", "", ""))
        elif step["kind"] == "unsnooze":
            rows.append((at, "· snooze ended", "", f"{step['by']}: {step['why']}", "", ""))
        elif step["kind"] == "settled":
            rows.append((at, "· settled by a retry", step["disposition"], "", "", ""))
    return rows


def _amount(order: dict[str, Any], text: str, minor: str, currency: str) -> str:
    """Return an amount with its currency. A currency without decimals in ISO 4217 has only smallest units."""
    shown = order[text] if order[text] is not None else f"{order[minor]} smallest units of"
    return f"{shown} {order[currency]}"
