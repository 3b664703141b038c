"""A process that sends callbacks from the order store of a cluster, and does nothing else, for tests that kill it."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from deploy import callbacks
from deploy.callbacks_file import CallbacksFile
from deploy.cluster import callback_store, settings
from tests.support.callback_receivers import NETWORKS
from tests.support.fakes import MemoryLogger
from workers.postgres.database import Database, DatabaseLimits
from workers.postgres.leadership import Leadership

LEASE_S = 3.0  # shorter than that of a worker: the next one takes over sooner


async def main(url: str, file: str, holder: str) -> None:
    """Send the callbacks of this order store to the endpoints in the file, while this process has the lease."""
    given = {"ALIPAY_NOTIFY_ACCOUNTS": "a.toml", "ALIPAY_NOTIFY_POSTGRES": url, **NETWORKS}
    configured = settings.load(given)
    async with AsyncExitStack() as stack:
        deliveries, _ = await callback_store.opened(stack, configured, holder=holder)
        database = await Database.open(url, limits=DatabaseLimits())
        stack.push_async_callback(database.close)
        candidacy = Leadership(database, role=callback_store.ROLE, holder=holder, lease_s=LEASE_S)
        chores = await callbacks.chores(
            stack,
            CallbacksFile(Path(file)),
            configured,
            store=deliveries,
            registry=CollectorRegistry(),
            logger=MemoryLogger(),
            now_ms=lambda: int(time.time() * 1000),
            leads=candidacy.leads,
            is_clock_trusted=lambda: True,
        )
        await asyncio.gather(*(chore() for chore in chores))


@asynccontextmanager
async def running(url: str, file: Path, holder: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the process; kill it at the end of the block, if it still runs."""
    argv = (sys.executable, "-m", "tests.support.callback_worker", url, str(file), holder)
    process = await asyncio.create_subprocess_exec(*argv)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
