"""`alipay-notify held`: notifications that were not simply applied. Look, try again, or let be."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any

import typer

from deploy import exits
from deploy.cli import admin, terminal
from deploy.cli.admin import AdminClient, Trouble

REPLAY_TIMEOUT_S = 120.0
_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")

_LIST_HELP = """List held notifications, oldest first.

    alipay-notify held list
    alipay-notify held list --disposition quarantined --since 24h
    alipay-notify held list --reason amount_mismatch --account shop-sg --output json
"""
_SHOW_HELP = """Show one with its fields, its signed bytes, and whether its signature is good now.

    alipay-notify held show 0-1234
"""
_REPLAY_HELP = """Try held notifications again: one by its id, or all that a filter means.

A filter is a dry run: it says which would be tried. With --yes they are, oldest first. Nothing is applied twice.

    alipay-notify held replay 0-1234 --why "the price was registered wrong"
    alipay-notify held replay --reason amount_mismatch
    alipay-notify held replay --reason amount_mismatch --rate 50 --yes --why "prices corrected"
"""
_DISCARD_HELP = """Resolve one without applying it. This is for good, and says who did it and why.

    alipay-notify held discard 0-1234 --reason "refunded by hand at the counter"
"""
_EPILOG_REPLAY = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 tried, and something is still held (see its reason and detail)."
)

Account = Annotated[str | None, typer.Option(help="Only this account's.")]
OrderNo = Annotated[str | None, typer.Option("--order", help="Only those of this order.")]
Disposition = Annotated[str | None, typer.Option(help="Only parked, quarantined or dead ones.")]
Reason = Annotated[str | None, typer.Option(help="Only those held for this reason, as amount_mismatch.")]
Since = Annotated[str | None, typer.Option(help="Only those held since: 24h, 7d, or an ISO time with a zone.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="As `held list` shows it.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    group = typer.Typer(help="Notifications that wait, or that a person has to decide.", no_args_is_help=True)
    group.command("list", help=_LIST_HELP, epilog=exits.EPILOG_READING)(list_held)
    group.command("show", help=_SHOW_HELP, epilog=exits.EPILOG)(show)
    group.command("replay", help=_REPLAY_HELP, epilog=_EPILOG_REPLAY)(replay)
    group.command("discard", help=_DISCARD_HELP, epilog=exits.EPILOG_READING)(discard)
    app.add_typer(group, name="held")


def list_held(
    account: Account = None,
    order: OrderNo = None,
    disposition: Disposition = None,
    reason: Reason = None,
    since: Since = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Those that are resolved, instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    url: admin.Url = admin.DEFAULT_URL,
    output: terminal.Output = "table",
) -> None:
    """Lists them."""
    asked = {"account": account, "order": order, "disposition": disposition, "reason": reason, "since": since}
    try:
        answer = AdminClient(url).get("held", **asked, resolved="true" if resolved else None, limit=limit)
    except Trouble as trouble:
        admin.fail(trouble)
    if output == "json":
        terminal.as_json(answer)
    elif not answer["held"]:
        typer.echo("Nothing is held.", err=True)
    else:
        columns = ("id", "since (UTC)", "account", "order", "", "reason", "next try (UTC)", "detail")
        terminal.table("", columns, [_row(held) for held in answer["held"]])


def show(id_: Id, url: admin.Url = admin.DEFAULT_URL, output: terminal.Output = "table") -> None:
    """Shows one; ends with 3 where its signature does not hold."""
    try:
        held = AdminClient(url).get("held", _checked(id_))
    except Trouble as trouble:
        admin.fail(trouble)
    if output == "json":
        terminal.as_json(held)
    else:
        _print(held)
    raise typer.Exit(exits.DONE if held["signature"]["authentic"] else exits.FOUND_WRONG)


def replay(
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="One, as `held list` shows it.", show_default=False)] = "",
    account: Account = None,
    order: OrderNo = None,
    disposition: Disposition = None,
    reason: Reason = None,
    since: Since = None,
    rate: Annotated[int, typer.Option(min=1, max=500, help="So many a second.")] = 50,
    yes: Annotated[bool, typer.Option("--yes", help="Do it, where a filter means many.")] = False,
    why: Annotated[str, typer.Option(help="Why; it is written down.")] = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Tries one or many again."""
    api = AdminClient(url, token=token)
    asked = {"account": account, "order": order, "disposition": disposition, "held_reason": reason, "since": since}
    meant = {name: value for name, value in asked.items() if value is not None}
    if bool(id_) == bool(meant):
        raise typer.BadParameter("say an ID, or a filter: --reason, --disposition, --account, --order, --since")
    if yes and not why:
        raise typer.BadParameter("many at once need a reason that is written down: --why")
    told = {"reason": why, "by": admin.me()}
    try:
        if id_:
            done = api.send("POST", "held", _checked(id_), "replay", body=told)
            still_held = not done["resolution"]
        else:
            body = {**meant, **told, "rate": rate, "dry_run": not yes}
            done = api.send("POST", "held", "replay", body=body, timeout_s=REPLAY_TIMEOUT_S)
            still_held = bool(set(done.get("results", ())) & {"parked", "quarantined", "dead"})
    except Trouble as trouble:
        admin.fail(trouble)
    if output == "json":
        terminal.as_json(done)
    else:
        _print_replay(done)
    raise typer.Exit(exits.FOUND_WRONG if still_held else exits.DONE)


def discard(
    id_: Id,
    reason: Annotated[str, typer.Option("--reason", "--why", help="Why; it is written down.")],
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Discards one."""
    told = {"reason": reason, "by": admin.me()}
    try:
        done = AdminClient(url, token=token).send("POST", "held", _checked(id_), "discard", body=told)
    except Trouble as trouble:
        admin.fail(trouble)
    if output == "json":
        terminal.as_json(done)
    else:
        terminal.line(id_, f"discarded by {done['by']}: {done['why']}")


def _checked(id_: str) -> str:
    if _ID.fullmatch(id_) is None:
        raise typer.BadParameter(
            f"{id_!r} is none: ids have the form 0-1234, as `held list` shows them", param_hint="ID"
        )
    return id_


def _row(held: dict[str, Any]) -> tuple[object, ...]:
    following = held["resolution"] or terminal.moment(held["due_at"]) or "a person decides"
    return (
        held["id"], terminal.moment(held["first_at"]), held["account"], held["order"], held["disposition"],
        held["reason"], following, held["detail"],
    )  # fmt: skip


def _print(held: dict[str, Any]) -> None:
    terminal.line("Held", f"{held['id']} of {held['account']}")
    terminal.line("Disposition", held["disposition"])
    terminal.line("Reason", f"{held['reason']}: {held['detail']}")
    terminal.line("Order", held["order"])
    terminal.line("Notification", held["notification_id"])
    terminal.line("Since (UTC)", terminal.moment(held["first_at"]))
    terminal.line("Tries", f"{held['attempts']}, by hand {held['replays']}")
    if held["resolution"]:
        terminal.line("Resolved", f"{held['resolution']} {held['by']} {held['why']}")
    signature = held["signature"]
    terminal.line("Signature", "good, checked now" if signature["authentic"] else signature["detail"])
    terminal.table("Fields", ("name", "value"), held["fields"].items())
    terminal.table("Headers of the record", ("name", "value"), held["headers"].items())
    typer.echo("\nThe signed bytes:")
    typer.echo(terminal.plain(base64.b64decode(held["body_base64"]).decode("utf-8", "backslashreplace")))


def _print_replay(done: dict[str, Any]) -> None:
    if "resolution" in done:
        terminal.line(
            done["id"], done["resolution"] or f"still {done['disposition']}, {done['reason']}: {done['detail']}"
        )
    elif done["dry_run"]:
        terminal.line("Would be tried", f"{done['count']} (nothing was done: --yes does it)")
        typer.echo(terminal.words(done["ids"][:50]) + (" …" if done["count"] > 50 else ""))
    else:
        terminal.line("Tried", done["count"])
        for result, count in sorted(done["results"].items()):
            terminal.line(result, count)
