"""Compose, start and stop a receiver, for both engines.

The caller gives the log, which differs between the engines, and the accounts, which it reloads.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiohttp import ClientSession, DummyCookieJar

from ingest import keys
from ingest.accounts_in_use import AccountsChange, AccountsInUse
from ingest.clock import Clock, SystemClock
from ingest.errors import Throttled
from ingest.http.server import Receiver
from ingest.log_port import Logger
from ingest.metrics import ReceiverMetrics
from ingest.notify_verify import NotifyVerify
from ingest.quota import Quota
from ingest.receive import AppendSpans, Confirm, Log, Receipts, Reception, no_receipt
from ingest.recent_refusals import RecentRefusals
from ingest.reporting import Reporting, Viewers
from ingest.resends import Resends
from ingest.settings import ReceiverSettings
from schemas.accounts import Account, Family
from schemas.telemetry import Field

UNNAMED_BATCHES = (
    "batch refunds of this account will be quarantined as names_nobody: they name no merchant, and Alipay's key signs "
    "for all; set notify_verify = true and partner if the account makes batch refunds"
)


@asynccontextmanager
async def serving(
    *,
    settings: ReceiverSettings,
    accounts: AccountsInUse,
    log: Log,
    logger: Logger,
    metrics: ReceiverMetrics,
    recent: RecentRefusals,
    viewers: Viewers | None = None,
    confirm: Confirm | None = None,
    clock: Clock | None = None,
    receipts: Receipts = no_receipt,
    spans: AppendSpans | None = None,
) -> AsyncIterator[Receiver]:
    """Run a receiver. On exit it drains and stops; the caller may close the log only after that.

    `confirm` defaults to Alipay's notify_verify. Without `spans` nothing is traced.

    Raises:
        OSError: the address cannot be bound.
    """
    clock = clock or SystemClock()

    def follow(change: AccountsChange) -> None:
        metrics.accounts_in_use(keyed.ring for keyed in accounts.keyed.values())
        for account in unnamed_batches(accounts[name] for name in change.learnt):
            logger.info(UNNAMED_BATCHES, **{Field.ACCOUNT: account})
        for keyed in (accounts.keyed[name] for name in change.learnt):
            for key in keys.weak(keyed.account, keyed.ring):
                logger.warning(keys.weak_note(keyed.account, key), **{Field.ACCOUNT: keyed.account.name})

    accounts.watch(follow)  # before the reception, which then counts no account that has no counters
    quota = Quota(count_max=settings.in_flight_max, bytes_max=settings.in_flight_bytes_max, exceeded=Throttled)
    metrics.watch_active(lambda: quota.count)
    resends = Resends()
    metrics.watch_give_up(lambda: resends.give_up_ms(clock.epoch_ms()))
    reporting = Reporting(
        metrics=metrics,
        logger=logger,
        recent=recent,
        clock=clock,
        resends=resends,
        viewers=viewers,
        accepted_sample=settings.log_sample,
        refusals_per_s=settings.log_refusals_per_s,
    )
    async with ClientSession(cookie_jar=DummyCookieJar()) as session:
        reception = Reception(
            accounts=accounts,
            quota=quota,
            confirm=confirm or NotifyVerify(session, total_s=settings.confirm_deadline_s),
            log=log,
            clock=clock,
            observer=metrics,
            receipts=receipts,
            spans=spans,
        )
        receiver = Receiver(settings=settings, reception=reception, reporting=reporting, clock=clock)
        try:
            await receiver.start()
            yield receiver
        finally:
            await receiver.stop()


def unnamed_batches(accounts: Iterable[Account]) -> list[str]:
    """Return the accounts whose batch refunds nothing binds to them: one key for all merchants, no notify_verify."""
    return sorted(
        account.name
        for account in accounts
        if account.family is Family.MAPI and not account.has_secret and not account.notify_verify
    )
