"""`alipay-notify events resend`: publish events of one order again."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy import exits
from deploy.cli import admin, terminal
from deploy.cli.admin import AdminClient

_RESEND_HELP = """Publish events of an order again, with the same ids.

For a consumer that has lost them. ORDER is the merchant's order number. With :VERSION, that version and all later ones
are published, in this order; without it, the newest alone. Every consumer of the topic gets them, and drops those that
it knows by their ids: delivery is at least once. Readers of /api/events meet them under new numbers.

The events are on their way when the command ends. A worker sends them within seconds, when their topic is there. The
reason and your user name are recorded.

    alipay-notify events resend 8121000345 --account shop-sg \\
        --reason "consumer lost its database"
    alipay-notify events resend 8121000345:2 --account shop-sg --reason "…"
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="Publish order events again.", no_args_is_help=True)
    group.command("resend", help=_RESEND_HELP, epilog=exits.EPILOG_READING)(resend)
    app.add_typer(group, name="events")


def resend(
    which: Annotated[str, typer.Argument(metavar="ORDER[:VERSION]", help="The order, and the first version.")],
    account: Annotated[str, typer.Option(help="The account that the order belongs to.")],
    reason: Annotated[str, typer.Option(help="The reason, for the audit row.")],
    auth_app_id: admin.AuthAppId = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Publish again, with an audit row for each event."""
    order, version = parsed(which)
    query = {"auth_app_id": auth_app_id} if auth_app_id else None
    api, given = AdminClient(url, token=token), {"version": version}
    done = admin.act(api, "orders", account, order, "resend", reason=reason, given=given, query=query)
    if output == "json":
        terminal.as_json(done)
        return
    for each in done["versions"]:
        typer.echo(f"version {each} of order {terminal.plain(done['order'])} is published again")


def parsed(which: str) -> tuple[str, int | None]:
    """Return the order's number and the version. A colon at the end says that the rest is the number."""
    order, colon, version = which.rpartition(":")
    if not colon:
        return which, None
    if not version:
        return order, None
    if not version.isascii() or not version.isdigit() or not int(version):
        raise typer.BadParameter("the version after the colon must be a number from 1 on; or end with a colon")
    return order, int(version)
