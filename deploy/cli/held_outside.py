"""`alipay-notify held refund-outside`, `snooze` and `unsnooze`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy import exits
from deploy.cli import admin, terminal
from deploy.cli.admin import AdminClient

_REFUND_HELP = """Record that the money of a held payment was refunded outside.

It was refunded in Alipay's own portal, so no program did it. The row is resolved as refunded_outside, and facts that
only it has brought leave its order. --amount has to be all that it reports as paid and not refunded. This is final.
Amount, reason and your user name are recorded, also on the order.

    alipay-notify held refund-outside 0-1234 --amount 12.80 --reason "a test"
"""
_SNOOZE_HELP = """Take a held notification out of the list and alerts for a time.

It is left out of `held list`, of the console's first list and of the gauges that alert, and comes back by itself. Money
at risk counts it all the same, and a parked one is retried. The reason and your user name are recorded.

    alipay-notify held snooze 0-1234 --until 4h --reason "the shop is asked"
    alipay-notify held snooze 0-1234 --until 7d --reason "holiday"
    alipay-notify held list --snoozed
"""
_UNSNOOZE_HELP = """End the snooze of a held notification now.

    alipay-notify held unsnooze 0-1234 --reason "the shop has answered"
"""

Id = Annotated[str, typer.Argument(metavar="ID", help="The id that `held list` shows.")]


def register(group: typer.Typer) -> None:
    """Add the commands to the group `held`."""
    group.command("refund-outside", help=_REFUND_HELP, epilog=exits.EPILOG_READING)(refund_outside)
    group.command("snooze", help=_SNOOZE_HELP, epilog=exits.EPILOG_READING)(snooze)
    group.command("unsnooze", help=_UNSNOOZE_HELP, epilog=exits.EPILOG_READING)(unsnooze)


def refund_outside(
    id_: Id,
    amount: Annotated[str, typer.Option(help="The refunded amount, such as 12.80, in the payment's currency.")],
    reason: admin.Why,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Resolve one as refunded outside."""
    done = _sent(AdminClient(url, token=token), id_, "refund-outside", reason, {"amount": amount})
    _print(done, f"refunded outside by {done['by']}: {done['why']}", output)


def snooze(
    id_: Id,
    until: Annotated[str, typer.Option(help="4h or 7d from now, or an ISO time with a zone; at most 30d.")],
    reason: admin.Why,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Snooze one."""
    done = _sent(AdminClient(url, token=token), id_, "snooze", reason, {"until": until})
    text = f"snoozed until {terminal.moment(done['snoozed_until'])} UTC by {done['snoozed_by']}: {done['snoozed_why']}"
    _print(done, text, output)


def unsnooze(
    id_: Id,
    reason: admin.Why = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """End the snooze of one."""
    done = _sent(AdminClient(url, token=token), id_, "unsnooze", reason, {})
    _print(done, "no longer snoozed", output)


def _sent(api: AdminClient, id_: str, verb: str, reason: str, given: dict[str, str]) -> dict[str, Any]:
    return admin.act(api, "held", admin.checked_held_id(id_), verb, reason=reason, given=given)


def _print(done: dict[str, Any], text: str, output: str) -> None:
    if output == "json":
        terminal.as_json(done)
    else:
        terminal.line(done["id"], text)
