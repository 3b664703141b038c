"""Records as a receiver would have written them, and the workers' processing over any store.

Nothing here is signed: a check that accepts everything replaces the signature check.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

from ingest.receive import Log
from schemas import record_format
from schemas.accounts import Account, Family, Orders, SignType
from schemas.record_format import Record, RecordContents
from tests.support.fakes import MemoryTopics, PlanObserver
from workers.held_decisions import HeldDecisions
from workers.processing import Processing, Store
from workers.queries import HeldPage, HeldQuery
from workers.record_reader import Authenticate
from workers.settlement.plan import LogRecord, Position

NOW_MS = 1_760_000_000_000

SHOP = Account(
    name="shop-sg", family=Family.MAPI, sign_type=SignType.RSA, keys={"k": "k"}, seller_id="2088001", currency="USD"
)
REGISTERED = Account(
    name="shop-reg",
    family=Family.MAPI,
    sign_type=SignType.RSA,
    keys={"k": "k"},
    seller_id="2088001",
    currency="USD",
    orders=Orders.REGISTERED,
)
PROVIDER = Account(
    name="isv",
    family=Family.OPENAPI,
    sign_type=SignType.RSA2,
    keys={"k": "k"},
    app_id="2021000000000001",
    auth_app_ids=("any",),
)
ANTOM_HEADERS: dict[str, Any] = {"client_id": b"C", "request_time": b"2025-06-05T01:10:31Z", "signature": b"s"}
ACCOUNTS = {account.name: account for account in (SHOP, REGISTERED, PROVIDER)}


async def appended(log: Log, record: Record) -> None:
    """Append a record; for a task of its own."""
    await log.append(record)


def record(
    order: str,
    status: str = "TRADE_SUCCESS",
    *,
    id_: str = "",
    account: Account = SHOP,
    amount: str = "12.80",
    trade: str = "",
    **more: str,
) -> Record:
    """A payment's notification, as a receiver would have written it."""
    fields = payment(order, status, id_=id_, amount=amount, trade=trade, **more)
    return sealed(urlencode(fields).encode(), order, account=account)


def payment(
    order: str, status: str = "TRADE_SUCCESS", *, id_: str = "", amount: str = "12.80", trade: str = "", **more: str
) -> dict[str, str]:
    """The fields of a payment's notification, unsigned."""
    return {
        "notify_type": "trade_status_sync",
        "notify_id": id_ or f"{order}-{status}",
        "notify_time": "2025-10-09 16:53:20",
        "out_trade_no": order,
        "trade_no": trade or f"2025100922001{order}",
        "trade_status": status,
        "total_fee": amount,
        "seller_id": "2088001",
        "subject": "Two tickets to the harbour and back",
        **more,
    }


def sealed(body: bytes, number: str, *, account: Account = SHOP, received_at_ms: int = NOW_MS) -> Record:
    """The record of any body."""
    return record_format.encode(
        RecordContents(
            account=account.name,
            family=account.family.value,
            received_at_ms=received_at_ms,
            path=b"/notify/" + account.name.encode(),
            content_type=b"application/x-www-form-urlencoded",
            key_id="k",
            confirmed=False,
            body=body,
            **(ANTOM_HEADERS if account.family is Family.ANTOM else {}),
        ),
        number,
    )


def logged(records: Sequence[Record], *, first: int = 1) -> list[LogRecord]:
    """The records at consecutive offsets of partition 0."""
    return [LogRecord(Position(0, offset), each) for offset, each in enumerate(records, first)]


class Time:
    """A clock that stands still until it is set."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def now_s(self) -> float:
        """A monotonic clock beside it, for tests that set the clock forward only."""
        return self.now_ms / 1000


def anybody_signed_this(sealed: RecordContents, account: Account, *, anew: bool = False) -> bool:
    """A signature check that finds nothing wrong."""
    return sealed.confirmed


def nobody_signed_this(sealed: RecordContents, account: Account, *, anew: bool = False) -> bool:
    """The check of an account whose key is gone."""
    raise LookupError


class ListingStore(Store, Protocol):
    """A store whose held rows can be listed."""

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]: ...

    async def held_page(self, id_: str) -> HeldPage | None: ...


class Operator:
    """Decides held notifications of this store, by id."""

    def __init__(
        self,
        store: ListingStore,
        time: Time,
        observer: PlanObserver | None = None,
        accounts: Mapping[str, Account] = ACCOUNTS,
    ) -> None:
        self._store = store
        self.decisions = HeldDecisions(
            accounts=accounts,
            read=processing(store, time, accounts=accounts).read,
            store=store,
            observer=observer or PlanObserver(),
            now_ms=time,
        )

    async def accept(self, id_: str, *, by: str = "ana", why: str = "agreed with the buyer") -> None:
        await self.decisions.accept(await self.page(id_), by=by, why=why)

    async def discard(self, id_: str, *, by: str = "ana", why: str = "a test order") -> None:
        await self.decisions.discard(await self.page(id_), by=by, why=why)

    async def page(self, id_: str) -> HeldPage:
        page = await self._store.held_page(id_)
        assert page is not None
        return page


def processing(
    store: Store,
    time: Time,
    topics: MemoryTopics | None = None,
    observer: PlanObserver | None = None,
    authenticate: Authenticate = anybody_signed_this,
    accounts: Mapping[str, Account] = ACCOUNTS,
) -> Processing:
    """The workers' processing over this store; by default every record counts as signed."""
    return Processing(
        accounts=accounts,
        authenticate=authenticate,
        store=store,
        events=topics or MemoryTopics(),
        observer=observer or PlanObserver(),
        now_ms=time,
        chance=lambda: 0.5,
    )
