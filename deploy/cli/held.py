"""`alipay-notify held`: list, show, retry, accept and discard notifications that were not applied."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import typer

from deploy import exits
from deploy.cli import admin, held_outside, held_replays, terminal
from deploy.cli.admin import AdminApiError, AdminClient
from workers.admin import page_times

_LIST_HELP = """List held notifications, oldest first.

Snoozed ones are left out. Parked ones are retried automatically. Quarantined and dead ones need a decision: `held
replay`, `held accept` or `held discard`.

    alipay-notify held list
    alipay-notify held list --disposition quarantined --since 24h
    alipay-notify held list --snoozed
    alipay-notify held list --reason amount_mismatch --all --output json
"""
_SHOW_HELP = """Show a held notification: fields, signed bytes, signature.

The signature is verified again, with the account's present keys. The buyer's data is hidden; --reveal shows it, and
is recorded with the reason and your user name.

    alipay-notify held show 0-1234
    alipay-notify held show 0-1234 --reveal --reason "the buyer asks"
"""
_REPLAY_HELP = """Retry held notifications: one by its id, or all that match.

With an id, the notification is retried at once. With filters, the command is a dry run that lists the matches; --yes
starts a replay in the worker, oldest first, and follows it. Ctrl-C leaves it running; see `held tasks`. A retry
verifies the signature again and applies no notification twice.

    alipay-notify held replay 0-1234 --why "the price was registered wrong"
    alipay-notify held replay --reason amount_mismatch
    alipay-notify held replay --reason amount_mismatch --yes --why "corrected"

To process part of the Kafka log again after a restore, use `alipay-notify replay`.
"""
_ACCEPT_HELP = """Accept a held notification as right.

Its amount is registered for the order, and it is applied. Of two payments, the accepted one counts; refunds beyond the
payment count as refunds of all of it. Only for those held as amount_mismatch, currency_mismatch, second_trade or
over_refunded. The reason and your user name are recorded.

Several are accepted by a task in the worker, which the command follows; without --yes it only lists them.

    alipay-notify held accept 0-1234 --reason "the buyer has a voucher"
    alipay-notify held accept 0-1234 0-1240 --reason "vouchers" --yes
"""
_DISCARD_HELP = """Discard a held notification without applying it.

Facts that only it has brought leave its order, with the flag. This is final. The reason and your user name are
recorded.

Several are discarded by a task in the worker, which the command follows; without --yes it only lists them.

    alipay-notify held discard 0-1234 --reason "a test order"
    alipay-notify held discard 0-1234 0-1240 --reason "tests" --yes
"""
_EPILOG_SHOW = "Exit codes: 0 the signature is valid, 1 failed, 2 wrong usage, 3 the signature is not valid now."
_EPILOG_REPLAY = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 retried, and at least one is still held."
_EPILOG_DECIDE = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done, and at least one of several was refused."

Account = Annotated[str | None, typer.Option(help="Only of this account.")]
Merchant = Annotated[
    str | None, typer.Option("--auth-app-id", metavar="NUMBER", help="Only of this merchant of the account.")
]
OrderNo = Annotated[str | None, typer.Option("--order", help="Only of this order.")]
Disposition = Annotated[str | None, typer.Option(help="Only parked, quarantined or dead ones.")]
Reason = Annotated[str | None, typer.Option(help="Only those held for this reason, such as amount_mismatch.")]
Since = Annotated[str | None, typer.Option(help="Only those held since 24h or 7d ago, or an ISO time with a zone.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id that `held list` shows.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID…", help="The ids that `held list` shows.")]
Rate = Annotated[int, typer.Option(min=1, max=500, help="Rows per second, if there are several.")]
Yes = Annotated[bool, typer.Option("--yes", help="Decide several; without it, a dry run.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Start the task and return at once.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="List, retry, accept or discard held notifications.", no_args_is_help=True)
    group.command("list", help=_LIST_HELP, epilog=exits.EPILOG_READING)(list_held)
    group.command("show", help=_SHOW_HELP, epilog=_EPILOG_SHOW)(show)
    group.command("replay", help=_REPLAY_HELP, epilog=_EPILOG_REPLAY)(retry)
    group.command("accept", help=_ACCEPT_HELP, epilog=_EPILOG_DECIDE)(accept)
    group.command("discard", help=_DISCARD_HELP, epilog=_EPILOG_DECIDE)(discard)
    held_outside.register(group)
    held_replays.register(group)
    app.add_typer(group, name="held")


def list_held(
    account: Account = None,
    auth_app_id: Merchant = None,
    order: OrderNo = None,
    disposition: Disposition = None,
    reason: Reason = None,
    since: Since = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="List resolved ones instead.")] = False,
    snoozed: Annotated[bool, typer.Option("--snoozed", help="List snoozed ones instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of rows.")] = 100,
    all_: Annotated[bool, typer.Option("--all", help="List all, however many.")] = False,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """List held notifications, page by page up to the limit."""
    filters = {"account": account, "auth_app_id": auth_app_id, "order": order}
    filters |= {"disposition": disposition, "reason": reason, "since": since}
    filters |= {"resolved": "true"} if resolved else {"snoozed": "true" if snoozed else "false"}
    try:
        answer = admin.listed(
            AdminClient(url, token=token), "held", rows="held", limit=None if all_ else limit, **filters
        )
    except AdminApiError as error:
        admin.fail(error)
    rows = answer["held"]
    if output == "json":
        terminal.as_json(answer)
    elif not rows:
        terminal.note("Nothing is held.")
    else:
        next_ = "resolution" if resolved else "next retry (UTC)"
        columns = ("id", "held for", "account", "order", "amount", "", "reason", next_, "detail")
        terminal.table("", columns, [_row(held, time.time()) for held in rows])
        if answer["next"] is not None:
            terminal.note(f"{len(rows):,} of {answer['total']:,}; --all lists all.")
    if not snoozed and answer.get("snoozed") and output != "json":  # a server of an earlier release has none
        terminal.note(f"{answer['snoozed']:,} snoozed are not listed; --snoozed lists them.")


def show(
    id_: Id,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the buyer's data too; it is recorded.")] = False,
    reason: Annotated[str, typer.Option(help="Why you need the buyer's data, for the audit record.")] = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Show one; exit with 3 if its signature is not valid."""
    if reveal and not reason.strip():
        raise typer.BadParameter("--reveal needs a reason for the audit record", param_hint="--reason")
    api = AdminClient(url, token=token)
    try:
        held = api.get("held", admin.checked_held_id(id_))
        if reveal:
            body = {"reason": reason, "by": api.operator()}
            held |= api.send("POST", "notifications", admin.checked_held_id(id_), "reveal", body=body)
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(held)
    else:
        _print(held)
    raise typer.Exit(exits.DONE if held["signature"]["authentic"] else exits.FOUND_WRONG)


def retry(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The id that `held list` shows.", show_default=False)] = "",
    account: Account = None,
    auth_app_id: Merchant = None,
    order: OrderNo = None,
    disposition: Disposition = None,
    reason: Reason = None,
    since: Since = None,
    all_: Annotated[bool, typer.Option("--all", help="All held notifications, without a filter.")] = False,
    rate: Annotated[int, typer.Option(min=1, max=500, help="Retries per second, with filters.")] = 50,
    yes: Annotated[bool, typer.Option("--yes", help="Retry all matches; without it, a dry run.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start the replay and return at once.")] = False,
    why: Annotated[str, typer.Option(help="The reason, for the audit record.")] = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Retry one or many."""
    api = AdminClient(url, token=token)
    given = {"account": account, "auth_app_id": auth_app_id, "order": order}
    given |= {"disposition": disposition, "held_reason": reason, "since": since}
    filters = {name: value for name, value in given.items() if value is not None}
    if "" in filters.values():  # such as an unset variable of a script
        raise typer.BadParameter("a filter may not be empty; --all means all held notifications")
    if bool(id_) == (bool(filters) or all_):
        raise typer.BadParameter(
            "give either an ID, or --all or a filter: --reason, --disposition, --account, --order, --since",
            param_hint="ID",
        )
    if yes and not id_ and not why:
        raise typer.BadParameter("--yes needs a reason for the audit record", param_hint="--why")
    try:
        if id_:
            code = _retry_one(api, admin.checked_held_id(id_), why, output)
        else:
            matching = held_replays.matching(api, filters)
            held_replays.print_left_out(matching)
            if yes:
                held_replays.confirm(matching["total"])
                code = held_replays.start(api, filters, rate=rate, why=why, is_waiting=not no_wait, output=output)
            else:
                code = _print_dry_run(matching, output)
    except AdminApiError as error:
        admin.fail(error)
    raise typer.Exit(code)


def _retry_one(api: AdminClient, id_: str, why: str, output: str) -> int:
    done = api.send("POST", "held", id_, "replay", body={"reason": why, "by": api.operator()})
    if output == "json":
        terminal.as_json(done)
    else:
        still = f"still {done['disposition']}, {done['reason']}: {done['detail']}"
        terminal.line(done["id"], done["resolution"] or still)
    return exits.DONE if done["resolution"] else exits.FOUND_WRONG


def _print_dry_run(matching: dict[str, Any], output: str) -> int:
    ids = [held["id"] for held in matching["held"]]
    _print_unmeant("replay", ids, output, total=matching["total"], has_more=matching["next"] is not None)
    return exits.DONE


def discard(
    ids: Ids,
    reason: admin.Why,
    rate: Rate = 50,
    yes: Yes = False,
    no_wait: NoWait = False,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Discard one or several."""
    _decide(AdminClient(url, token=token), ids, "discard", reason, _Pace(rate, yes, not no_wait), output)


def accept(
    ids: Ids,
    reason: admin.Why,
    rate: Rate = 50,
    yes: Yes = False,
    no_wait: NoWait = False,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Accept one or several."""
    _decide(AdminClient(url, token=token), ids, "accept", reason, _Pace(rate, yes, not no_wait), output)


class _Pace(NamedTuple):
    """How several are decided: rows a second, whether to do it at all, and whether to follow it."""

    rate: int
    is_meant: bool
    is_waiting: bool


def _decide(api: AdminClient, ids: list[str], verb: str, reason: str, pace: _Pace, output: str) -> None:
    for id_ in ids:
        admin.checked_held_id(id_)
    try:
        if len(ids) == 1:
            done = api.send("POST", "held", ids[0], verb, body={"reason": reason, "by": api.operator()})
            _print_decided(ids[0], verb, done, output)
            return
        if not pace.is_meant:
            _print_unmeant(verb, ids, output, total=len(ids))
            return
        held_replays.confirm(len(ids))
        rows = {"action": verb, "ids": ids}
        code = held_replays.start(api, rows, rate=pace.rate, why=reason, is_waiting=pace.is_waiting, output=output)
    except AdminApiError as error:
        admin.fail(error)
    raise typer.Exit(code)


def _print_decided(id_: str, verb: str, done: dict[str, Any], output: str) -> None:
    if output == "json":
        terminal.as_json(done)
    else:
        terminal.line(id_, f"{verb}ed by {done['by']}: {done['why']}")


def _print_unmeant(verb: str, ids: list[str], output: str, *, total: int, has_more: bool = False) -> None:
    if output == "json":
        terminal.as_json({"dry_run": True, "count": total, "ids": ids})
    else:
        terminal.line(f"Would {verb}", f"{total:,} (dry run, nothing was done; --yes {verb}s them)")
        terminal.words([*ids, "…"] if has_more else ids)


def _row(held: dict[str, Any], now_s: float) -> tuple[object, ...]:
    next_retry = held["resolution"] or terminal.moment(held["due_at"]) or "none: decide"
    if held.get("snoozed_until") and datetime.fromisoformat(held["snoozed_until"]).timestamp() > now_s:
        next_retry = f"snoozed until {terminal.moment(held['snoozed_until'])}"
    held_for = page_times.span(now_s - datetime.fromisoformat(held["first_at"]).timestamp())
    return (
        held["id"], held_for, admin.owner(held), held["order"], _amount(held), held["disposition"], held["reason"],
        next_retry, held["detail"],
    )  # fmt: skip


def _amount(held: dict[str, Any]) -> str:
    """Return the amount that it reports, and what of, unless it is paid; nothing if it names none."""
    if held.get("currency") is None:  # a server of an earlier release has no amounts
        return ""
    sum_ = held["amount"] or f"{held['amount_minor']} smallest units of"
    return f"{sum_} {held['currency']}{'' if held['amount_of'] == 'paid' else ' ' + held['amount_of']}"


def _print(held: dict[str, Any]) -> None:
    terminal.line("Reason", f"{held['detail'] or held['reason']} ({held['reason']})")
    if contradiction := held.get("contradiction"):  # a server of an earlier release has none
        refunded = f", of which {contradiction['refunded']} are refunded" if contradiction["refunded"] else ""
        terminal.line("It says", contradiction["said"])
        terminal.line("Known", f"{contradiction['known']}{refunded} ({contradiction['source']})")
    terminal.line("Held", f"{held['id']} of {admin.owner(held)}")
    terminal.line("Disposition", held["disposition"])
    terminal.line("Order", held["order"] or "none is named")
    terminal.line("Amount", _amount(held))
    terminal.line("Notification", held["notification_id"])
    if held.get("received_at"):
        terminal.line("Received", f"{terminal.moment(held['received_at'])} UTC, acknowledged, not sent again")
    if held.get("deliveries") is not None:
        terminal.line("Deliveries", held["deliveries"])
    terminal.line("Since", f"{terminal.moment(held['first_at'])} UTC")
    terminal.line("Attempts", f"{held['attempts']}, {held['replays']} by operators")
    for label, text in _coming(held):
        terminal.line(label, text)
    partition, _, offset = held["id"].partition("-")
    terminal.line("Record", f"offset {offset} of partition {partition}")
    terminal.line("Signature", _verdict(held["signature"]))
    terminal.pairs("Fields", held["fields"])
    terminal.pairs("Record headers", held["headers"])
    hidden = ", with personal data hidden (--reveal shows it)" if held.get("masked") else ""
    typer.echo(f"\nSigned bytes{hidden}:")
    typer.echo(terminal.plain(base64.b64decode(held["body_base64"]).decode("utf-8", "backslashreplace")))


def _coming(held: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield its next attempt and the end of all attempts, the end of a snooze, or its resolution."""
    if held["resolution"]:
        done = f"{held['resolution']} on {terminal.moment(held['resolved_at'])} UTC"
        yield "Resolved", f"{done} by {held['by']}: {held['why']}" if held["by"] else done
        return
    if held["waits_for"]:
        yield "Waits for", held["waits_for"]
    next_ = f"{terminal.moment(held['due_at'])} UTC" if held["due_at"] else "none: it needs a decision"
    yield "Next attempt", next_
    if held.get("gives_up_at"):
        yield "Gives up", f"not before {terminal.moment(held['gives_up_at'])} UTC"
    if held.get("snoozed_until"):
        until = terminal.moment(held["snoozed_until"])
        yield "Snoozed until", f"{until} UTC, by {held['snoozed_by']}: {held['snoozed_why']}"


def _verdict(signature: dict[str, Any]) -> str:
    if not signature["authentic"]:
        return str(signature["detail"])
    return "valid, verified now" + (f" by key {signature['key_id']}" if signature.get("key_id") else "")
