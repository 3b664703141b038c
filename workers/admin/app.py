"""The admin port: probes, metrics, the API for the merchant's own programs and operators, and the console.

It is never the public port. What each part does stands in `workers.admin`; here is only what they are given. The
composition root binds it, and `guard.check_bind` refuses an address beyond loopback without a token.
"""

from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry

from schemas.accounts import Account
from workers.admin import responses, server
from workers.admin.activity import Activity
from workers.admin.console import ConsolePart
from workers.admin.feed import EventsPort, FeedPart
from workers.admin.guard import AuditLog, Guard
from workers.admin.held import HeldPart, Replays, Retry
from workers.admin.orders import OrdersPart, Refusals
from workers.admin.probes import ProbesPart, Readiness
from workers.admin.returns import CheckReturn, ReturnsPart
from workers.long_poll import OrderChanges
from workers.processing import Authenticate
from workers.queries import HeldPort, OrdersPort


def probes(
    *, readiness: Readiness, registry: CollectorRegistry, log: AuditLog, token: str | None = None
) -> web.Application:
    """The admin port of a process that answers no questions about orders: probes and metrics."""
    app = web.Application(middlewares=[Guard(token=token, log=log).check], client_max_size=responses.BODY_BYTES_MAX)
    app.add_routes(ProbesPart(readiness=readiness, registry=registry).routes())
    app.on_response_prepare.append(server.sign)
    return app


def application(
    *,
    accounts: Mapping[str, Account],
    orders: OrdersPort,
    held: HeldPort,
    events: EventsPort,
    retry: Retry,
    authenticate: Authenticate,
    check_return: CheckReturn,
    refusals: Refusals,
    replays: Replays,
    readiness: Readiness,
    registry: CollectorRegistry,
    changes: OrderChanges,
    wake: Callable[[], None],
    now_ms: Callable[[], int],
    log: AuditLog,
    token: str | None = None,
    counts_here: bool = True,
) -> web.Application:
    """The application of the admin port. `counts_here`: whether receiver and worker run in this process.

    `retry` is `Processing.retry`; `wake` is called when something may have come due or wait to be sent: after a
    registration and after a replay. Whoever settles batches tells `changes`. `replays` is `workers.metrics.Metrics`.
    """
    app = probes(readiness=readiness, registry=registry, log=log, token=token)
    about_held = HeldPart(
        accounts=accounts,
        held=held,
        retry=retry,
        authenticate=authenticate,
        changes=changes,
        replays=replays,
        wake=wake,
        now_ms=now_ms,
        log=log,
    )
    about_orders = OrdersPart(
        accounts=accounts, orders=orders, changes=changes, refusals=refusals, wake=wake, now_ms=now_ms
    )
    app.add_routes(about_orders.routes())
    app.add_routes(ReturnsPart(accounts=accounts, check=check_return, orders=orders).routes())
    app.add_routes(about_held.routes())
    app.add_routes(FeedPart(events=events, changes=changes).routes())
    activity = Activity(registry, counts_here=counts_here)
    app.cleanup_ctx.append(activity.run)
    console = ConsolePart(
        accounts=accounts,
        orders=orders,
        held=held,
        refusals=refusals,
        inspect=about_held.inspected,
        changes=changes,
        activity=activity,
        now_ms=now_ms,
    )
    app.add_routes(console.routes())

    async def answer_waiters(_: web.Application) -> None:
        changes.close()

    app.on_shutdown.append(answer_waiters)
    return app
