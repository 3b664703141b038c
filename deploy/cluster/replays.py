"""What a replay works with: the order store, and the workers' story over it, without a worker's loops."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct

from deploy import accounts_file
from deploy.cluster import connections, settings
from deploy.cluster.console import NoTopics
from deploy.cluster.settings import ClusterSettings
from deploy.trust import Trust
from ingest.clock import SystemClock
from ingest.keys import Rings
from schemas.events import Outgoing
from workers.backoff import when_fenced_again
from workers.postgres.store import OrderStore
from workers.processing import Processing
from workers.settlement.plan import LogRecord, ParsedRecord, WritePlan


class Prepared(Struct, frozen=True):
    """An open store, the way to process a batch, and what became of the records so far, by disposition."""

    store: OrderStore
    process: Callable[[Sequence[LogRecord]], Awaitable[None]]
    results: Callable[[], dict[str, int]]


class Counted:
    """Counts dispositions: only those that this replay gave."""

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()

    def settled(self, plan: WritePlan, readings: Sequence[ParsedRecord]) -> None:
        self.results.update(delivery.disposition.value for delivery in plan.deliveries)

    def emitted(self, events: Sequence[Outgoing]) -> None: ...

    def step(self, name: str, seconds: float) -> None: ...


@asynccontextmanager
async def prepared(told: ClusterSettings) -> AsyncIterator[Prepared]:
    """Everything a replay needs beside the log. Each signature is verified again, by today's keys.

    Raises:
        refusals.REFUSALS: accounts, keys or the store cannot be used.
    """
    clock, counted = SystemClock(), Counted()
    accounts = accounts_file.read(told.accounts)
    trust = Trust(Rings(accounts, told.accounts.parent), connections.receipt_keys(told))
    store = await OrderStore.open(
        settings.postgres_address(told), holder=connections.name("replay"), now_ms=clock.epoch_ms, has_relay=False
    )
    try:
        processing = Processing(
            accounts=accounts,
            authenticate=trust.authenticate_anew,
            store=store,
            events=NoTopics(),
            watch=counted,
            now_ms=clock.epoch_ms,
        )

        async def process(batch: Sequence[LogRecord]) -> None:
            await when_fenced_again(lambda: processing.process(batch))

        yield Prepared(store, process, lambda: dict(counted.results))
    finally:
        await store.close()
