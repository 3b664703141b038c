"""`alipay-notify console`: the API and the console, over the order store that the workers share.

It consumes nothing, and sends nothing: what it writes (a registration, a replay) leaves through the outbox, and the
worker that leads sends it. Several may run; each is as good as the other.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from prometheus_client import CollectorRegistry

from deploy import accounts_file, process
from deploy.authentication import Authenticator, keep_keys
from deploy.cluster import connections, housekeeping, settings
from deploy.cluster.settings import ClusterSettings
from deploy.logs import LogWriter
from ingest.clock import SystemClock
from ingest.keys import Rings
from schemas.events import Outgoing
from workers import metrics
from workers.admin import app
from workers.admin.probes import Check
from workers.admin.shapes import RefusedRequest
from workers.backoff import retry_conflicts
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.observers import Observers
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.settlement.plan import HeldRow


class NoTopics:
    """What this process writes is sent by the workers."""

    async def publish(self, events: Sequence[Outgoing]) -> None:
        raise NotImplementedError("a console has no relay")


class NoRefusals:
    """What receivers turn away they remember themselves, each in its own process."""

    def of_order(self, account: str, order: str) -> Sequence[RefusedRequest]:
        return ()


@asynccontextmanager
async def running(
    told: ClusterSettings, lines: LogWriter, registry: CollectorRegistry
) -> AsyncIterator[dict[str, str]]:
    """A console that answers; what is given is where.

    Raises:
        refusals.REFUSALS: it cannot be started as told.
    """
    clock = SystemClock()
    accounts = accounts_file.read(told.accounts)
    rings = Rings(accounts, told.accounts.parent)
    token = process.admin_token(told)
    async with AsyncExitStack() as stack:
        store = await PostgresOrderStore.open(
            settings.postgres_address(told),
            holder=connections.name("console"),
            now_ms=clock.epoch_ms,
            has_relay=False,
        )
        stack.push_async_callback(store.close)
        changes = OrderChanges()
        counted = metrics.WorkerMetrics(registry, accounts, now_ms=clock.epoch_ms)
        trust = Authenticator(rings, connections.receipt_keys(told))
        processing = Processing(
            accounts=accounts,
            authenticate=trust.authenticate,
            store=store,
            events=NoTopics(),
            observer=Observers(metrics=counted, log=WorkerLog(lines, sample=told.log_sample), changes=changes),
            now_ms=clock.epoch_ms,
        )

        async def retry(rows: Sequence[HeldRow]) -> None:
            await retry_conflicts(lambda: processing.retry(rows))

        async def health() -> Sequence[Check]:
            return [process.check("store", store.trouble)]

        application = app.application(
            accounts=accounts,
            orders=store,
            held=store,
            events=store,
            retry=retry,
            authenticate=trust.authenticate,
            check_return=trust.check_return,
            refusals=NoRefusals(),
            replays=counted,
            readiness=health,
            registry=registry,
            changes=changes,
            wake=store.woken.set,
            now_ms=clock.epoch_ms,
            log=lines,
            token=token,
            counts_here=False,
        )
        admin_url = await process.serve_admin(stack, application, told, lines)
        chores = (
            partial(counted.keep_fresh, store),
            partial(housekeeping.follow, store, changes),
            partial(keep_keys, rings, accounts, lines, interval_s=told.key_reload_interval_s),
        )
        await stack.enter_async_context(process.background_tasks(registry, health, lines, *chores))
        yield {"admin": admin_url}
