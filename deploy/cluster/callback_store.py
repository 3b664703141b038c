"""The database connections of a worker's callbacks: few of their own, so that no batch waits for them."""

from contextlib import AsyncExitStack

from deploy.cluster.settings import ClusterSettings, rotating_postgres_address
from workers.postgres.callbacks import PostgresCallbacks
from workers.postgres.database import Database, DatabaseLimits
from workers.postgres.leadership import Leadership
from workers.postgres.store import PostgresOrderStore

ROLE = "callbacks"
CONNECTIONS_MAX = 2


async def opened(
    stack: AsyncExitStack, settings: ClusterSettings, *, holder: str
) -> tuple[PostgresCallbacks, Leadership]:
    """Return the deliveries and this worker's candidacy to send them. Both end when the stack is left.

    Raises:
        DatabaseNotUsable, InfrastructureDown: as `Database.open`.
    """
    limits = DatabaseLimits(connections_min=1, connections_max=CONNECTIONS_MAX)
    address = rotating_postgres_address(settings)
    database = await Database.open(address, limits=limits)
    stack.push_async_callback(database.close)
    reads = await Database.open_for_reads(address)
    stack.push_async_callback(reads.close)
    candidacy = Leadership(database, role=ROLE, holder=holder)
    stack.push_async_callback(candidacy.resign)
    return PostgresCallbacks(database, reads), candidacy


def without_endpoints(
    stack: AsyncExitStack, store: PostgresOrderStore, *, holder: str
) -> tuple[PostgresCallbacks, Leadership]:
    """Return the deliveries and the candidacy of a worker without endpoints, over the connections of its store."""
    candidacy = Leadership(store.database, role=ROLE, holder=holder)
    stack.push_async_callback(candidacy.resign)
    return PostgresCallbacks(store.database, store.reads), candidacy
