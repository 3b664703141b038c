"""The signed bytes of one notification, its fields, and its signature check by the keys of now.

Personal data is hidden until an operator asks for it with a reason, which leaves an audit row and a log line before the
answer. Neither answer may be kept by a cache.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import datetime

from aiohttp import web
from msgspec import Struct

from schemas import personal, times
from schemas.accounts import Account
from schemas.record_format import Record
from workers.admin import held, inspection, responses, sign_in
from workers.admin.guard import AuditLog
from workers.admin.inspection import Signature, Verify
from workers.admin.responses import ApiError
from workers.audit import AuditPort
from workers.queries import HeldPort, OrdersPort


class RawBytes(Struct, frozen=True, kw_only=True):
    """A notification's bytes, fields and headers. If `masked`, personal data is hidden in all of them.

    It was erased at `erased_at`, null if it was not.
    """

    id: str
    fields: dict[str, str]
    headers: dict[str, str]
    body_base64: str
    masked: bool
    erased_at: datetime | None
    signature: Signature


class StoredRecord(Struct, frozen=True):
    """A record, and when personal data was erased from it; `None` if it was not."""

    record: Record
    erased_at_ms: int | None


class RawPart:
    """The API for the bytes of notifications."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        orders: OrdersPort,
        held: HeldPort,
        audit: AuditPort,
        verify: Verify,
        now_ms: Callable[[], int],
        log: AuditLog,
    ) -> None:
        self._accounts = accounts
        self._orders = orders
        self._held = held
        self._audit = audit
        self._verify = verify
        self._now_ms = now_ms
        self._log = log

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/notifications/{id}/raw", self.show),
            web.post("/api/notifications/{id}/reveal", self.reveal),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Return the bytes with personal data hidden, and whether the signature is valid now."""
        id_ = request.match_info["id"]
        stored = await self.stored(id_)
        if stored is None:
            raise _no_bytes(id_)
        return responses.json(self.of(id_, stored))

    async def reveal(self, request: web.Request) -> web.Response:
        """Return the bytes as they are. The audit row is written first."""
        given = await responses.body(request, held.OperatorReason)
        why, id_ = held.why_of(given.reason), request.match_info["id"]
        stored = await self.stored(id_)
        if stored is None:
            raise _no_bytes(id_)
        by = sign_in.acting(request, given.by)
        await self._audit.note("reveal", [id_], by=by, why=why, now_ms=self._now_ms())
        self._log.info("notification_revealed", notification=id_, by=by, why=why)
        return responses.json(self.of(id_, stored, is_revealed=True))

    def of(self, id_: str, stored: StoredRecord, *, is_revealed: bool = False) -> RawBytes:
        """Return the bytes, with personal data hidden unless they are revealed."""
        record, erased_at_ms = stored.record, stored.erased_at_ms
        body = record.value if is_revealed else personal.hidden(record.value)
        return RawBytes(
            id=id_,
            fields=inspection.fields(record, self._accounts, is_revealed=is_revealed),
            headers=inspection.headers(record),
            body_base64=base64.b64encode(body).decode("ascii"),
            masked=not is_revealed,
            erased_at=None if erased_at_ms is None else times.from_epoch_ms(erased_at_ms),
            signature=inspection.signature(record, self._accounts, self._verify, erased_at_ms),
        )

    async def stored(self, id_: str) -> StoredRecord | None:
        """Return the record at this position: its own if it is held, or was, else the first with its id.

        Raises:
            ApiError: there is no notification at this position.
        """
        page = await self._held.held_page(id_)
        if page is not None:
            return StoredRecord(page.row.record, page.erased_at_ms)
        notification = await self._orders.notification(id_)
        if notification is None:
            raise ApiError(404, "unknown_notification", f"there is no notification {id_}")
        record = notification.record
        return None if record is None else StoredRecord(record, notification.erased_at_ms)


def _no_bytes(id_: str) -> ApiError:
    return ApiError(404, "no_bytes", f"the bytes of notification {id_} are kept with another one")
