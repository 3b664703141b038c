"""`alipay-notify audit`: the actions of operators."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy import exits
from deploy.cli import admin, terminal
from deploy.cli.admin import AdminApiError, AdminClient

_HELP = """List what operators have done, and why, the newest first.

The name is that of the operator's token, and then `token` stands beside the address of the request. Without a named
token it is the one that the operator gave, or that of the command's user, and is not verified.

    alipay-notify audit
    alipay-notify audit --subject 0-1234
    alipay-notify audit --subject shop-sg:8121000345
    alipay-notify audit --action discard --since 7d --output json
"""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("audit", help=_HELP, epilog=exits.EPILOG_READING)(audit)


def audit(
    subject: Annotated[
        str | None, typer.Option(metavar="ID", help="Only those about a held notification, or about ACCOUNT:ORDER.")
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as discard.")] = None,
    by: Annotated[str | None, typer.Option(help="Only those by a name or address that contains this.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those since 24h or 7d ago, or an ISO time.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of rows.")] = 100,
    all_: Annotated[bool, typer.Option("--all", help="List all, however many.")] = False,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """List the actions, page by page up to the limit."""
    filters = {"subject": subject, "action": action, "by": by, "since": since}
    try:
        answer = admin.listed(
            AdminClient(url, token=token), "audit", rows="entries", limit=None if all_ else limit, **filters
        )
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(answer)
    elif not answer["entries"]:
        terminal.note("No action is recorded." if not any(filters.values()) else "No recorded action matches.")
    else:
        columns = ("at (UTC)", "action", "subject", "by", "why")
        terminal.table("", columns, [_row(each) for each in answer["entries"]])
        if answer["next"] is not None:
            terminal.note(f"There may be more than these {len(answer['entries']):,}; --all lists all.")


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    return terminal.moment(entry["at"]), entry["action"], entry["subject"], entry["by"], entry["why"]
