"""The deliveries in the order store: one row for each event and endpoint, and one for each endpoint with its cursor.

    outbox ──► cursor of the endpoint ──► pending row ──► sent ──► delivered, kept for a week
                                            ▲    └─ failed: due again after a wait (`schedule`)
                                            └─ waits, without a due time, for the earlier event of its order

An event becomes a row only when the sender comes to it, and only while few are due there: the backlog of an endpoint
that is down stays in the outbox, where it is kept for thirty days. Events that an endpoint refuses wait for their
retry, and keep back none that it takes, up to `PENDING_EVER_MAX`. Without an endpoint nothing is written.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from schemas import events, times
from schemas.events import Outgoing
from schemas.times import DAY_MS, HOUR_MS
from workers import row_codec
from workers.callbacks import endpoints
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.schedule import AttemptResult, CallbackOutcome, DeliveryState, EndpointState
from workers.queries import Emitted

EVENTS_MAX = 500  # that one step takes from the outbox
DUE_MAX = 2000  # per endpoint; while so many are due, its further events stay in the outbox
PENDING_MAX = 10_000  # the same for all that are pending, if the endpoint has taken none of them lately
PENDING_EVER_MAX = 100_000  # the same, whatever it takes: one that refuses a type for days must not fill the store
PENDING_COUNTED_MAX = 10_000  # for operators and the gauge
BEGIN_ANEW_MAX = 5_000  # rows per transaction, when an endpoint is enabled
ALL_DUE_MAX = 10_000  # rows per step, when an endpoint answers again
LATELY_MS = HOUR_MS
FINISHED_KEPT_MS = 7 * DAY_MS
ALL_KEPT_MS = 30 * DAY_MS  # as long as the outbox keeps their events
RESEND_MAX = 1000  # events of one order
PRUNE_ROWS_MAX = 1000  # per transaction


class DueDelivery(Struct, frozen=True, kw_only=True):
    """An event to be sent now. `attempts` are those before, `first_at_ms` is the first of them."""

    number: int
    event: Outgoing
    attempts: int
    first_at_ms: int | None


class Step(Struct, frozen=True, kw_only=True):
    """The outcome of a step: the deliveries to send, the endpoint's state, and whether it was disabled in this step.

    `is_more` if the outbox has further events that could be taken at once. `is_recovering` if the endpoint answers
    again, and the next step has to make further waiting rows due. `unwritten` are results for the next step: another
    session of the database has locked a row of their orders.
    """

    due: Sequence[DueDelivery] = ()
    state: EndpointState = EndpointState()
    is_disabled_now: bool = False
    is_more: bool = False
    is_recovering: bool = False
    unwritten: Sequence[AttemptResult] = ()


class EndpointPage(Struct, frozen=True, kw_only=True):
    """An endpoint for operators. `pending` are its rows, counted up to `PENDING_COUNTED_MAX`; the outbox may have more.

    `oldest_ms` is when the oldest undelivered event was written, of those rows and the outbox; `None` if none is."""

    name: str
    url: str
    state: EndpointState
    is_configured: bool
    pending: int
    oldest_ms: int | None
    last_delivered_ms: int | None


class CallbackDelivery(Struct, frozen=True, kw_only=True):
    """A row of the delivery log. `due_ms` is `None` while it waits for an earlier event of its order, and at the end.

    `outcome`, `status` and `detail` are of the last attempt, which took `took_ms`.
    """

    endpoint: str
    number: int
    event_id: str
    type: str
    state: DeliveryState
    attempts: int
    created_ms: int
    due_ms: int | None
    tried_ms: int | None
    outcome: CallbackOutcome | None
    status: int
    detail: str
    took_ms: int


class DeliveryQuery(Struct, frozen=True, kw_only=True):
    """Which deliveries of one endpoint are wanted, the newest first: those below the number `before`."""

    endpoint: str
    state: DeliveryState | None = None
    order: str | None = None  # `scope:number`
    before: int | None = None
    limit: int = 50


class CallbacksPort(Protocol):
    """The port of operators."""

    async def endpoints(self) -> Sequence[EndpointPage]:
        """Return all endpoints by name, also those that are configured no more."""

    async def endpoint(self, name: str) -> EndpointPage | None:
        """Return the endpoint of this name; `None` if it is not known."""

    async def deliveries(self, query: DeliveryQuery) -> Sequence[CallbackDelivery]: ...

    async def enable(self, endpoint: str, *, by: str, why: str, now_ms: int) -> bool:
        """Send to it again: its pending events are due now, their attempts counted anew. `False`: not known."""

    async def disable(self, endpoint: str, *, by: str, why: str, now_ms: int) -> bool:
        """Send nothing to it until it is enabled. `False` if it is not known, or is disabled already."""

    async def resend(
        self, endpoint: str, *, number: int | None, scope: str, order: str, version: int | None, by: str, why: str,
        now_ms: int,
    ) -> int | None:  # fmt: skip
        """Send again the event of this number in the outbox, or else those of this order; return how many.

        `None` if the endpoint is not known. They are sent in version order, whatever the filters.
        """


class DeliveriesPort(CallbacksPort, Protocol):
    """The port of the sender, which needs more."""

    async def configure(self, configured: Sequence[Endpoint], *, now_ms: int) -> Sequence[str]:
        """Note these endpoints, and no others, as configured; return the names of those that were so until now.

        A new one gets the events that are written later.

        Raises:
            InfrastructureDown: it has to be repeated. The others may be sent to, also new ones that are noted already.
        """

    async def has_configured(self) -> bool:
        """Return whether an endpoint is noted as configured, without a look at its deliveries.

        Raises:
            InfrastructureDown: the store does not answer.
        """

    async def step(
        self, endpoint: Endpoint, results: Sequence[AttemptResult], *, busy: Collection[bytes], limit: int, now_ms: int,
        is_recovering: bool = False,
    ) -> Step:  # fmt: skip
        """Write the results, take events from the outbox, and return deliveries that are due.

        None of the keys in `busy` is among them, and no key twice. Results may be written twice. `is_recovering` is
        as the last step returned it.

        Raises:
            RowsLocked: another session has locked a row. The next step goes around those of orders.
            InfrastructureDown: the store does not answer.
        """

    async def prune(self, *, now_ms: int) -> int:
        """Delete some rows that are older than they are kept; return how many."""


def has_room(*, due: int, pending: int, delivered_ms: int | None, now_ms: int) -> bool:
    """Return whether further events may become rows of an endpoint that took its last one at `delivered_ms`.

    A former leader whose clock was ahead wrote a time that is not lately: the next event that is taken mends it.
    """
    if due >= DUE_MAX or pending >= PENDING_EVER_MAX:
        return False
    return pending < PENDING_MAX or (delivered_ms is not None and 0 <= now_ms - delivered_ms < LATELY_MS)


def new_rows(endpoint: Endpoint, events: Sequence[Emitted], *, now_ms: int) -> list[tuple[Any, ...]]:
    """Return the rows of the events that the endpoint wants, as old as their events."""
    return [
        row_of(endpoint.name, emitted, min(_written_ms(emitted.event, now_ms), now_ms))
        for emitted in events
        if endpoint.wants(emitted.event)
    ]


def row_of(endpoint: str, emitted: Emitted, created_ms: int) -> tuple[Any, ...]:
    """Return a new pending row: endpoint, number, key, event id, type, and when it was created."""
    event = emitted.event
    return endpoint, emitted.number, event.key, event.id, endpoints.type_of(event), created_ms


def orders_of(emitted: Sequence[Emitted]) -> list[str]:
    """Return the orders of the events as `scope:order`, for the audit rows."""
    return sorted({each.event.key.decode("utf-8", "replace") for each in emitted})


def _written_ms(event: Outgoing, now_ms: int) -> int:
    try:
        return times.to_epoch_ms(datetime.fromisoformat(dict(event.headers)["ce_time"].decode()))
    except (KeyError, ValueError):
        return now_ms


def ids_of(scope: str, order: str, *, version: int | None, newest: int) -> list[str]:
    """Return the event ids of an order: of this version, or of the last `RESEND_MAX` up to the newest."""
    versions = range(max(1, newest - RESEND_MAX + 1), newest + 1) if version is None else (version,)
    return [events.event_id(scope, order, each) for each in versions]


def due(row: Sequence[Any]) -> DueDelivery:
    """Return a delivery from the columns of its event in the outbox, its attempts, and the time of the first one."""
    *of_event, attempts, first_at_ms = row
    emitted = row_codec.emitted(tuple(of_event))
    return DueDelivery(number=emitted.number, event=emitted.event, attempts=attempts, first_at_ms=first_at_ms)


def state(row: Sequence[Any]) -> EndpointState:
    """Return the state of an endpoint from its columns."""
    failing_since_ms, disabled_at_ms, disabled_why = row
    return EndpointState(failing_since_ms=failing_since_ms, disabled_at_ms=disabled_at_ms, disabled_why=disabled_why)


def delivery(row: Sequence[Any]) -> CallbackDelivery:
    """Return a row of the log from its columns."""
    endpoint, number, event_id, type_, state, attempts, created, due, tried, outcome, status, detail, took = row
    return CallbackDelivery(
        endpoint=endpoint,
        number=number,
        event_id=event_id,
        type=type_,
        state=DeliveryState(state),
        attempts=attempts,
        created_ms=created,
        due_ms=due,
        tried_ms=tried,
        outcome=CallbackOutcome(outcome) if outcome else None,
        status=status,
        detail=detail,
        took_ms=took,
    )


def page(row: Sequence[Any]) -> EndpointPage:
    """Return an endpoint for operators from its columns."""
    name, url, *of_state, is_configured, pending, oldest, last_delivered = row
    return EndpointPage(
        name=name,
        url=url,
        state=state(of_state),
        is_configured=bool(is_configured),
        pending=pending,
        oldest_ms=oldest,
        last_delivered_ms=last_delivered,
    )
