"""Compose the admin port from its parts; it is never the public port.

The composition root binds it. `guard.access` refuses an address beyond loopback without a token.
"""

from collections.abc import Callable, Mapping, Sequence

from aiohttp import web
from msgspec import Struct
from prometheus_client import CollectorRegistry

from schemas import event_names
from schemas.accounts import Account
from schemas.event_names import EventNames
from workers.admin import languages, responses, server
from workers.admin.activity import Activity
from workers.admin.audit_pages import AuditPages
from workers.admin.bill_pages import BillPages
from workers.admin.bills import BillsPart
from workers.admin.callback_pages import CallbackPages
from workers.admin.callbacks import CallbacksPart
from workers.admin.console import ConsolePart
from workers.admin.erase import ErasePart
from workers.admin.feed import EventsPort, FeedPart
from workers.admin.guard import LOOPBACK_ONLY, Access, AuditLog, ErrorPage, Guard
from workers.admin.held import HeldPart, Retry, RetryCounter
from workers.admin.held_amounts import HeldAmounts
from workers.admin.held_details import HeldDetails
from workers.admin.held_pages import HeldPages
from workers.admin.held_preview import HeldPreviewPart
from workers.admin.held_verdicts import HeldVerdictsPart
from workers.admin.inspection import Verify
from workers.admin.key_rings import Inventory, KeysPart
from workers.admin.links import OutsideLinks
from workers.admin.notifications import NotificationsPart
from workers.admin.now import Now
from workers.admin.order_export import OrderExportPart
from workers.admin.orders import OrdersPart, RefusedRequests
from workers.admin.pages import ConsoleFrame
from workers.admin.probes import ProbesPart, Readiness
from workers.admin.process_state import OwnProcess, ProcessPart
from workers.admin.processes import Processes
from workers.admin.raw_bytes import RawPart
from workers.admin.replays import ReplaysPart
from workers.admin.requests import RequestsPart, SignRequest
from workers.admin.resend import ResendPart
from workers.admin.returns import CheckReturn, ReturnsPart
from workers.admin.sign_in import SignInPart
from workers.admin.tail_pages import TailPages
from workers.audit import AuditPort
from workers.bills import BillsPort
from workers.callbacks.deliveries import CallbacksPort
from workers.erasure import ErasurePort
from workers.held_decisions import HeldDecisions
from workers.key_uses import KeyUsesPort
from workers.long_poll import OrderChanges
from workers.processing import LIMIT_S
from workers.queries import HeldPort, OrdersPort
from workers.replays import ReplaysPort
from workers.resends import ResendPort
from workers.snoozes import SnoozesPort
from workers.tail import RecentPort
from workers.time_limit import TimeLimit


class LiveParts(Struct, frozen=True, kw_only=True):
    """The sources of the present moment: all processes, with their tail, and the newest rows."""

    processes: Processes
    recent: RecentPort


def probes(
    *,
    own: OwnProcess,
    readiness: Readiness,
    registry: CollectorRegistry,
    log: AuditLog,
    access: Access = LOOPBACK_ONLY,
    error_page: ErrorPage | None = None,
) -> web.Application:
    """Return the admin port of a process without an order store: probes, metrics, and its state for the console."""
    guard = Guard(access=access, log=log, error_page=error_page)
    app = web.Application(middlewares=[languages.choose, guard.check], client_max_size=responses.API_BODY_BYTES_MAX)
    app.add_routes(ProbesPart(readiness=readiness, registry=registry).routes())
    process = ProcessPart(own)
    app.add_routes(process.routes())
    app[server.BEFORE_STOP] = process.leave
    app.on_response_prepare.append(server.set_server_header)

    async def end_streams(_: web.Application) -> None:
        own.tail.close()

    app.on_shutdown.append(end_streams)
    return app


def application(
    *,
    accounts: Mapping[str, Account],
    own: OwnProcess,
    live: LiveParts,
    orders: OrdersPort,
    held: HeldPort,
    replays: ReplaysPort,
    snoozes: SnoozesPort,
    events: EventsPort,
    audit: AuditPort,
    erasure: ErasurePort,
    resends: ResendPort,
    callbacks: CallbacksPort,
    bills: BillsPort,
    keys: Inventory,
    key_uses: KeyUsesPort,
    retry: Retry,
    decisions: HeldDecisions,
    verify: Verify,
    check_return: CheckReturn,
    sign_request: SignRequest,
    refusals: RefusedRequests,
    retries: RetryCounter,
    readiness: Readiness,
    registry: CollectorRegistry,
    changes: OrderChanges,
    wake: Callable[[], None],
    now_ms: Callable[[], int],
    log: AuditLog,
    access: Access = LOOPBACK_ONLY,
    accounts_faults: Callable[[], Sequence[str]] = tuple,
    time_limit: TimeLimit | None = None,
    names: EventNames = event_names.LOGICAL,
    links: OutsideLinks | None = None,
) -> web.Application:
    """Return the whole admin port.

    `own` is this process, and its tail is the one that the console shows. `accounts_faults` has the faults of
    accounts.toml and the key files, while the old accounts stay in use. `retry` is `Processing.retry`. `wake` is called
    after a registration and after a retry, because rows may be due and events unsent. The worker reports settled
    batches to `changes`, and `retries` counts the outcomes of retries. Reading and deciding is under the `time_limit`.
    `names` are those that consumers see in events. `links` are for the first page.
    """
    time_limit = time_limit or TimeLimit(LIMIT_S)
    pages = ConsoleFrame(accounts_faults=accounts_faults, now_ms=now_ms)
    app = probes(own=own, readiness=readiness, registry=registry, log=log, access=access, error_page=pages.error)
    amounts = HeldAmounts(accounts=accounts, held=held, time_limit=time_limit)
    details = HeldDetails(accounts=accounts, orders=orders, amounts=amounts, verify=verify)
    held_part = HeldPart(
        accounts=accounts,
        held=held,
        amounts=amounts,
        details=details,
        retry=retry,
        changes=changes,
        retries=retries,
        wake=wake,
        now_ms=now_ms,
        log=log,
    )
    verdicts_part = HeldVerdictsPart(
        held=held,
        amounts=amounts,
        decisions=decisions,
        snoozes=snoozes,
        changes=changes,
        wake=wake,
        now_ms=now_ms,
        log=log,
    )
    orders_part = OrdersPart(
        accounts=accounts,
        orders=orders,
        changes=changes,
        refusals=refusals,
        wake=wake,
        now_ms=now_ms,
        time_limit=time_limit,
    )
    notifications = NotificationsPart(accounts=accounts, orders=orders, time_limit=time_limit)
    app.add_routes(orders_part.routes())
    app.add_routes(OrderExportPart(accounts=accounts, orders=orders, now_ms=now_ms).routes())
    app.add_routes(notifications.routes())
    app.add_routes(ReturnsPart(accounts=accounts, check=check_return, orders=orders).routes())
    requests_part = RequestsPart(
        accounts=accounts, sign=sign_request, register=orders_part.record, has_token=bool(access.operators)
    )
    app.add_routes(requests_part.routes())
    app.add_routes(ReplaysPart(accounts=accounts, replays=replays, now_ms=now_ms, log=log).routes())
    app.add_routes(held_part.routes())
    app.add_routes(verdicts_part.routes())
    app.add_routes(FeedPart(events=events, changes=changes, names=names).routes())
    raw = RawPart(accounts=accounts, orders=orders, held=held, audit=audit, verify=verify, now_ms=now_ms, log=log)
    app.add_routes(raw.routes())
    erase = ErasePart(accounts=accounts, erasure=erasure, changes=changes, now_ms=now_ms, log=log)
    app.add_routes(erase.routes())
    resend = ResendPart(accounts=accounts, resends=resends, changes=changes, wake=wake, now_ms=now_ms, log=log)
    app.add_routes(resend.routes())
    app.add_routes(CallbacksPart(callbacks=callbacks, orders=orders, now_ms=now_ms, log=log).routes())
    bills_part = BillsPart(
        accounts=accounts, bills=bills, orders=orders, register=orders_part.record, now_ms=now_ms, log=log
    )
    app.add_routes(bills_part.routes())
    activity = Activity(registry, counts=live.processes.counts if live.processes.are_known else None)
    app.cleanup_ctx.append(activity.run)
    tail_pages = TailPages(
        accounts=accounts,
        tail=own.tail,
        recent=live.recent,
        refusals=refusals,
        changes=changes,
        are_processes_known=live.processes.are_known,
        pages=pages,
    )
    app.add_routes(tail_pages.routes())
    console = ConsolePart(
        accounts=accounts,
        orders=orders,
        held=held,
        refusals=refusals,
        notification=notifications.answer,
        raw=raw,
        changes=changes,
        activity=activity,
        processes=live.processes,
        newest_lines=tail_pages.newest,
        started_at_ms=own.identity.started_at_ms,
        now=Now(held=held, amounts=amounts, readiness=readiness, registry=registry),
        links=links or OutsideLinks(),
        pages=pages,
        now_ms=now_ms,
    )
    app.add_routes(console.routes())
    held_pages = HeldPages(
        accounts=accounts,
        held=held,
        replays=replays,
        amounts=amounts,
        details=details,
        changes=changes,
        pages=pages,
        now_ms=now_ms,
    )
    app.add_routes(held_pages.routes())
    preview = HeldPreviewPart(
        accounts=accounts, held=held, amounts=amounts, changes=changes, pages=pages, now_ms=now_ms
    )
    app.add_routes(preview.routes())
    keys_part = KeysPart(
        accounts=accounts,
        inventory=keys,
        uses=key_uses,
        held=held,
        changes=changes,
        pages=pages,
        now_ms=now_ms,
    )
    app.add_routes(keys_part.routes())
    app.add_routes(CallbackPages(callbacks=callbacks, changes=changes, pages=pages).routes())
    app.add_routes(BillPages(bills=bills, changes=changes, pages=pages).routes())
    app.add_routes(AuditPages(audit=audit, changes=changes, pages=pages, now_ms=now_ms).routes())
    app.add_routes(pages.routes())
    app.add_routes(SignInPart().routes())

    async def answer_waiters(_: web.Application) -> None:
        changes.close()

    app.on_shutdown.append(answer_waiters)
    return app
