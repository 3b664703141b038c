"""`alipay-notify callbacks`: the endpoints that get order events over HTTP, and their delivery logs."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

import typer

from deploy import exits
from deploy.cli import admin, terminal
from deploy.cli.admin import AdminApiError, AdminClient

_HELP = """Watch and steer callbacks: order events pushed to your services.

    alipay-notify callbacks list
    alipay-notify callbacks deliveries shop --state pending
    alipay-notify callbacks resend shop --order 20260131-17 --why lost
"""
_LIST_HELP = """List the endpoints, with what waits for each.

    alipay-notify callbacks list
    alipay-notify callbacks list --output json
"""
_DELIVERIES_HELP = """List an endpoint's deliveries, the newest event first.

Each row is one event, with its last attempt. One that is pending and has no time for the next attempt waits for an
earlier event of its order.

    alipay-notify callbacks deliveries shop
    alipay-notify callbacks deliveries shop --state given_up
    alipay-notify callbacks deliveries shop --order 20260131-17 --output json
"""
_RESEND_HELP = """Send events again: of one delivery, or of an order.

They are sent in version order, whatever the endpoint's filters. The log shows the number of a delivery for a week;
an order's events are kept for thirty days, its newest for ever.

    alipay-notify callbacks resend shop --order 20260131-17 --why lost
    alipay-notify callbacks resend shop --order 2026-17 --version 2 --why lost
    alipay-notify callbacks resend shop --number 4711 --why "lost in a bug"
"""
_ENABLE_HELP = """Send to a disabled endpoint again; its events are due at once.

    alipay-notify callbacks enable shop --why "mended"
"""
_DISABLE_HELP = """Send nothing to an endpoint until it is enabled. Its events wait, for thirty days.

    alipay-notify callbacks disable shop --why "it moves"
"""

Name = Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's name in callbacks.toml.")]
Account = Annotated[str, typer.Option(help="The order's account, if several have such an order.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help=_HELP, epilog=exits.EPILOG, no_args_is_help=True)
    group.command("list", help=_LIST_HELP, epilog=exits.EPILOG_READING)(list_)
    group.command("deliveries", help=_DELIVERIES_HELP, epilog=exits.EPILOG_READING)(deliveries)
    group.command("resend", help=_RESEND_HELP, epilog=exits.EPILOG_READING)(resend)
    group.command("enable", help=_ENABLE_HELP, epilog=exits.EPILOG_READING)(enable)
    group.command("disable", help=_DISABLE_HELP, epilog=exits.EPILOG_READING)(disable)
    app.add_typer(group, name="callbacks")


def list_(url: admin.Url = admin.DEFAULT_URL, token: admin.Token = "", output: terminal.Output = "table") -> None:
    """List the endpoints."""
    try:
        answer = AdminClient(url, token=token).get("callbacks")
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(answer)
    elif not answer["endpoints"]:
        terminal.note("There is no endpoint. ALIPAY_NOTIFY_CALLBACKS names the file with them.")
    else:
        columns = ("endpoint", "state", "pending", "oldest (UTC)", "last delivered (UTC)", "url", "why")
        terminal.table("", columns, [_endpoint(each) for each in answer["endpoints"]])


def deliveries(
    name: Name,
    state: Annotated[
        Literal["pending", "delivered", "given_up"] | None, typer.Option(help="Only those in this state.")
    ] = None,
    order: Annotated[str, typer.Option(help="Only those of this order, by any of its numbers.")] = "",
    account: Account = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Largest number of deliveries.")] = 50,
    before: Annotated[int | None, typer.Option(min=1, help="Only those below this number: the next page.")] = None,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """List an endpoint's deliveries."""
    query = {"state": state, "order": order or None, "account": account or None, "limit": limit, "before": before}
    try:
        answer = AdminClient(url, token=token).get("callbacks", name, "deliveries", **query)
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(answer)
        return
    if not answer["deliveries"]:
        terminal.note("No such delivery is in the log.")
        return
    columns = ("number", "event", "type", "state", "attempts", "last attempt (UTC)", "next (UTC)", "detail")
    terminal.table("", columns, [_delivery(each) for each in answer["deliveries"]])
    if answer["before"] is not None:
        terminal.note(f"There may be more: --before {answer['before']}")


def resend(
    name: Name,
    order: Annotated[str, typer.Option(help="The order, by any of its numbers.")] = "",
    version: Annotated[int | None, typer.Option(min=1, help="Only this version of the order.")] = None,
    number: Annotated[int | None, typer.Option(min=1, help="The number of a delivery, instead of an order.")] = None,
    account: Account = "",
    why: admin.Why = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Send events again."""
    given = {"order": order, "version": version, "number": number, "account": account}
    api = AdminClient(url, token=token)
    answer = admin.act(api, "callbacks", name, "resend", reason=why, given=given)
    if output == "json":
        terminal.as_json(answer)
    else:
        state = _state(api, name)
        how = (
            f"they wait, because it is {state}" if state in ("disabled", "removed") else "they go out in version order"
        )
        terminal.line("Resent", f"{answer['resent']} events to {name}; {how}")


def enable(
    name: Name,
    why: admin.Why = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Enable an endpoint."""
    _show(admin.act(AdminClient(url, token=token), "callbacks", name, "enable", reason=why), output)


def disable(
    name: Name,
    why: admin.Why = "",
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Disable an endpoint."""
    _show(admin.act(AdminClient(url, token=token), "callbacks", name, "disable", reason=why), output)


def _state(api: AdminClient, name: str) -> str:
    """Return the state of an endpoint; empty if the server does not answer any more."""
    with suppress(AdminApiError):
        return next((str(each["state"]) for each in api.get("callbacks")["endpoints"] if each["name"] == name), "")
    return ""


def _show(endpoint: dict[str, Any], output: str) -> None:
    if output == "json":
        terminal.as_json(endpoint)
    else:
        terminal.line(endpoint["name"], f"{endpoint['state']}, {endpoint['pending']} events pending")


def _endpoint(shown: dict[str, Any]) -> tuple[object, ...]:
    why = shown["disabled_why"]
    if shown["state"] == "failing":
        why = f"since {terminal.moment(shown['failing_since'])}"
    return (
        shown["name"], shown["state"], shown["pending"], terminal.moment(shown["oldest_at"]),
        terminal.moment(shown["last_delivered_at"]), shown["url"], why,
    )  # fmt: skip


def _delivery(shown: dict[str, Any]) -> tuple[object, ...]:
    detail = shown["detail"] or (f"it answered {shown['status']}" if shown["status"] else "")
    return (
        shown["number"], shown["event_id"], shown["type"], shown["state"], shown["attempts"],
        terminal.moment(shown["tried_at"]), terminal.moment(shown["due_at"]), detail,
    )  # fmt: skip
