"""A worker's processing over an in-memory store, for the tests of reading, deciding and holding records."""

from collections.abc import Callable, Mapping

from msgspec import structs

from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.record_format import Record, RecordContents
from tests.support import facts
from tests.support.facts import form
from tests.support.fakes import MemoryTopics, Offsets, PlanObserver
from tests.support.stores import MemoryStore
from workers.dead_letters import DeadLetters
from workers.processing import SETTLING_MAX_S, Processing
from workers.record_reader import AccountsFiles, Authenticate
from workers.settlement.plan import HeldRow, Position, WritePlan
from workers.time_limit import TimeLimit

SHOP = facts.account("mapi")
FORGED = b"forged"


class Forged(Exception):
    """Raised by the signature check of these tests."""


class Weird(BaseException):
    """A BaseException that is no signal to stop."""


def authenticate(contents: RecordContents, account: Account, *, anew: bool = False) -> bool:
    if FORGED in contents.body:
        raise Forged
    return contents.confirmed


class MemoryWorker:
    """`Processing` with everything that it calls, in memory."""

    def __init__(
        self,
        refuses: Callable[[WritePlan], bool] = lambda plan: False,
        dead_letters_max: int = 20,
        authenticate: Authenticate = authenticate,
        published: MemoryTopics | None = None,
        accounts: Mapping[str, Account] = facts.ACCOUNTS,
        files: AccountsFiles | None = None,
        time_limit: TimeLimit | None = None,
        settling_max_s: float = SETTLING_MAX_S,
    ) -> None:
        self.store = MemoryStore(refuses)
        self.published = published or MemoryTopics()
        self.observer = PlanObserver()
        self.log = Offsets()
        self.processing = Processing(
            accounts=accounts,
            authenticate=authenticate,
            store=self.store,
            events=self.published,
            observer=self.observer,
            now_ms=lambda: 1_743_480_000_000,
            chance=lambda: 0.5,
            dead_letters=DeadLetters(dead_letters_max),
            files=files,
            time_limit=time_limit,
            settling_max_s=settling_max_s,
        )

    async def process(self, *records: Record) -> list[Position]:
        batch = [self.log.log_record(record) for record in records]
        await self.processing.process(batch)
        return [log_record.position for log_record in batch]

    def outcomes(self) -> list[tuple[Disposition, Reason]]:
        deliveries = self.store.deliveries
        return [(deliveries[position].disposition, deliveries[position].reason) for position in sorted(deliveries)]

    def held(self, offset: int = 0) -> HeldRow:
        return self.store.held[Position(0, offset)]


def paid(order: str, **more: str) -> Record:
    fact = form(f"id-{order}", "TRADE_SUCCESS", order=order, trade=f"T-{order}", **more)
    return facts.record(facts.body(fact), SHOP, number=order)


def with_header(record: Record, name: str, value: bytes | None) -> Record:
    """The record with one header changed, or without it."""
    headers = [(known, old) for known, old in record.headers if known != name]
    return structs.replace(record, headers=(*headers, *([] if value is None else [(name, value)])))


APPLIED = (Disposition.APPLIED, Reason.CHANGED)
