"""One notification over HTTP, by its record: its kind, its numbers and its disposition.

For notifications that move no order this is the only page. It is read from the signed bytes, so it also has what an
earlier release did not look for.
"""

from collections.abc import Mapping
from datetime import datetime

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from schemas import interpret, record_format, scopes, times
from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.notification import Kind, NamedNumber, Notification, NumberKind, Unreadable
from schemas.record_format import Record
from workers.admin import responses
from workers.admin.responses import ApiError
from workers.queries import NotificationPage, OrdersPort
from workers.time_limit import TimeLimit, TookTooLong


class NotificationAnswer(Struct, frozen=True, kw_only=True):
    """One notification without its bytes. `kind` is null if the bytes cannot be read with the account of now.

    `numbers` are those by which it is found; of the kinds `claimed_…`, it may name them, or may not.

    `fields` are those that are not personal, of a notification that moves no order.
    """

    id: str
    account: str
    auth_app_id: str | UnsetType = UNSET
    order: str
    notification_id: str
    kind: Kind | None
    type: str
    status: str
    news: str
    disposition: Disposition
    reason: Reason
    detail: str
    version: int | None
    numbers: tuple[NamedNumber, ...]
    fields: dict[str, str]
    sent_at: datetime | None
    received_at: datetime
    decided_at: datetime


class NotificationsPart:
    """The API for single notifications."""

    def __init__(self, *, accounts: Mapping[str, Account], orders: OrdersPort, time_limit: TimeLimit) -> None:
        self._accounts = accounts
        self._orders = orders
        self._time_limit = time_limit

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/notifications/{id}", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """Return the notification of the record at this position."""
        return responses.json(await self.answer(request.match_info["id"]))

    async def answer(self, id_: str) -> NotificationAnswer:
        """Return the notification of the record at this position.

        Raises:
            ApiError: there is none.
        """
        page = await self._orders.notification(id_)
        if page is None:
            raise ApiError(404, "unknown_notification", f"there is no notification {id_}")
        return shape(page, None if page.record is None else self._read(page.record))

    def _read(self, record: Record) -> Notification | Unreadable | None:
        try:
            return self._time_limit.run(lambda: read(record, self._accounts), "read")
        except TookTooLong:
            return None


def shape(page: NotificationPage, meaning: Notification | Unreadable | None) -> NotificationAnswer:
    """Return the answer; `meaning` is that of its bytes, or why they have none, if its account is known."""
    notification = meaning if isinstance(meaning, Notification) else None
    delivery = page.delivery
    account, auth_app_id = scopes.split(delivery.account)
    return NotificationAnswer(
        id=str(delivery.position),
        account=account,
        auth_app_id=auth_app_id,
        order=delivery.order,
        notification_id=delivery.notification_id,
        kind=None if notification is None else notification.kind,
        type=delivery.type,
        status=delivery.status,
        news=delivery.news,
        disposition=delivery.disposition,
        reason=delivery.reason,
        detail=delivery.detail,
        version=delivery.version,
        numbers=() if meaning is None else _numbers(meaning, is_erased=page.erased_at_ms is not None),
        fields={} if notification is None else dict(notification.fields),
        sent_at=None if notification is None else notification.sent_at,
        received_at=times.from_epoch_ms(delivery.received_at_ms),
        decided_at=times.from_epoch_ms(delivery.decided_at_ms),
    )


def _numbers(meaning: Notification | Unreadable, *, is_erased: bool) -> tuple[NamedNumber, ...]:
    """Return the numbers; that of a token is a digest of it, which cannot be made of erased bytes."""
    return tuple(each for each in meaning.numbers if not (is_erased and each.kind is NumberKind.ACCESS_TOKEN))


def read(record: Record, accounts: Mapping[str, Account]) -> Notification | Unreadable | None:
    """Return the meaning of a record, or why it has none; `None` if it is no record, or its account is not known."""
    try:
        contents = record_format.decode(record)
        account = accounts.get(contents.account)
        if account is None or account.family.value != contents.family:
            return None
        return interpret.read(contents.body, account, is_confirmed=contents.confirmed, is_answer=contents.is_answer)
    except (record_format.BadRecord, record_format.NewerRecord):
        return None
    except Unreadable as unreadable:
        return unreadable
