"""Compose, start and stop a receiver, for both engines.

The caller gives the log, which differs between the engines, and the keys, which a process with a worker shares with it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from aiohttp import ClientSession, DummyCookieJar

from ingest.clock import Clock, SystemClock
from ingest.errors import Throttled
from ingest.http.server import Receiver
from ingest.keys import KeyRing, Rings
from ingest.log_port import Logger
from ingest.metrics import ReceiverMetrics
from ingest.notify_verify import NotifyVerify
from ingest.quota import Quota
from ingest.receive import Confirm, Log, Receipts, Reception, no_receipt
from ingest.recent_refusals import RecentRefusals
from ingest.reporting import Reporting
from ingest.settings import ReceiverSettings
from schemas.accounts import Account, Family
from schemas.telemetry import Field

UNNAMED_BATCHES = (
    "batch refunds of this account will be quarantined as names_nobody: they name no merchant, and Alipay's key signs "
    "for all; set notify_verify = true and partner if the account makes batch refunds"
)


class KeyObserver(Protocol):
    """Receives the keys in use and their expiry times, for metrics."""

    def keys_in_use(self, keys: Iterable[tuple[str, str]], /) -> None: ...

    def keys_expire(self, expiries: dict[tuple[str, str], float], /) -> None: ...


@asynccontextmanager
async def serving(
    *,
    settings: ReceiverSettings,
    accounts: Mapping[str, Account],
    rings: Rings,
    log: Log,
    logger: Logger,
    metrics: ReceiverMetrics,
    recent: RecentRefusals,
    confirm: Confirm | None = None,
    clock: Clock | None = None,
    receipts: Receipts = no_receipt,
) -> AsyncIterator[Receiver]:
    """Run a receiver. On exit it drains and stops; the caller may close the log only after that.

    `confirm` defaults to Alipay's notify_verify.

    Raises:
        WrongParser: aiohttp has no C parser.
        OSError: the address cannot be bound.
    """
    clock = clock or SystemClock()
    for account in unnamed_batches(accounts.values()):
        logger.info(UNNAMED_BATCHES, **{Field.ACCOUNT: account})
    quota = Quota(count_max=settings.in_flight_max, bytes_max=settings.in_flight_bytes_max, exceeded=Throttled)
    metrics.watch_active(lambda: quota.count)
    reporting = Reporting(
        metrics=metrics,
        logger=logger,
        recent=recent,
        clock=clock,
        accepted_sample=settings.log_sample,
        refusals_per_s=settings.log_refusals_per_s,
    )
    async with ClientSession(cookie_jar=DummyCookieJar()) as session:
        reception = Reception(
            accounts=accounts,
            quota=quota,
            keys=rings,
            confirm=confirm or NotifyVerify(session, total_s=settings.confirm_deadline_s),
            log=log,
            clock=clock,
            observer=metrics,
            receipts=receipts,
        )
        receiver = Receiver(settings=settings, reception=reception, reporting=reporting, clock=clock)
        reloading = asyncio.create_task(
            reload_keys(rings, accounts, observer=metrics, logger=logger, interval_s=settings.key_reload_interval_s)
        )
        try:
            await receiver.start()
            yield receiver
        finally:
            await receiver.stop()
            reloading.cancel()
            with suppress(asyncio.CancelledError):
                await reloading


def unnamed_batches(accounts: Iterable[Account]) -> list[str]:
    """Return the accounts whose batch refunds nothing binds to them: one key for all merchants, no notify_verify."""
    return sorted(
        account.name
        for account in accounts
        if account.family is Family.MAPI and not account.has_secret and not account.notify_verify
    )


async def reload_keys(
    rings: Rings, accounts: Iterable[str], *, observer: KeyObserver, logger: Logger, interval_s: float
) -> None:
    """Reload changed key files every `interval_s`, until cancelled.

    If a file is faulty, the account keeps its old keys. The same faults are logged only once.
    """
    names = list(accounts)
    logged: list[str] = []
    while True:
        faults = rings.reload()
        current = [rings.current(name) for name in names]
        observer.keys_in_use((ring.account, key.id) for ring in current for key in ring.keys)
        observer.keys_expire(_expiries(current))
        if faults != logged:
            logged = faults
            for fault in faults:
                logger.error("key file is faulty, the old keys stay in use", **{Field.ERROR: fault})
            if not faults:
                logger.info("all key files are valid again")
        await asyncio.sleep(interval_s)


def _expiries(rings: Iterable[KeyRing]) -> dict[tuple[str, str], float]:
    return {
        (ring.account, key.id): key.expires_at.timestamp()
        for ring in rings
        for key in ring.keys
        if key.expires_at is not None
    }
