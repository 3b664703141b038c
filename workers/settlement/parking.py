"""The life of a held notification: why it is held, until when, what wakes it, and what ends it. Pure.

A notification that is not simply applied gets a row in the store's `held` table, in the transaction that gives its
record a disposition (`held_row`, called by `drafting.Draft`). The row keeps the record as it is in the log.

    parked       its order, trade or refund is not known yet                  `Draft.park` ← `decision`
                 or a newer release wrote the record, or its account, key,    `Draft.hold_failure` ← `record_reader`
                 receipt key or setting is not in the worker's files (yet)
                 or another session of the database has locked a row that     `Draft.park_until_unlocked` ← `decision`
                 it needs: a shell with an open transaction, for example      `Draft.hold_failure` ← `processing`
    quarantined  authentic, but its facts contradict what is known            `Draft.quarantine` ← `decision`
                 or it lacks a usable field                                   `Draft.hold_failure` ← `record_reader`
    dead         no notification at all, or our code or the store failed      `Draft.hold_failure` ← `processing`

What happens to it then:

    due          parked only: after 30 s, 5 min, then hourly;                 `parked_row`, `due_at_ms`
                 every 30 s until the upgrade if a newer release wrote it     `parked_until_upgrade`
                 without limit if its account or key is not known             `parked_until_learnt`
                 every 5 s, without limit and without an attempt, if a row    `parked_until_unlocked`
                 that it needs is locked
    woken        parked only: its order, trade or refund becomes known; the   `decision` fills `WritePlan.wakes`;
                 transaction that makes it known also makes the row due, or   `wakes` in each engine
                 notes that it is to be made due, if it is locked or one of   `Sweeper.run_once` goes on with these
                 very many
                 or its account or key is added by a reload                   `workers.learnt_accounts`
    retried      by the sweeper when due, or by an operator's replay          `workers.sweeper`, `workers.admin.held`
                 checked and decided like a record from the log, but only     `Processing.retry`, `BatchDecision.settle`
                 if the row is still as it was read                           `BatchDecision._is_unchanged`
    held again   with one more attempt, by the same rules                     `held_row`
    given up     at the first retry after 25 hours, so up to an hour later,   `parked_row`
                 and after 20 retries, a row that waits becomes quarantined
    resolved     applied, duplicate or stale, in the transaction of that      `Draft.finish` fills `WritePlan.released`
                 or accepted, discarded or refunded outside by an operator    `settlement.verdicts`
    snoozed      out of the first list and of the gauges until a moment,      `workers.snoozes`
                 and nothing else

A quarantined or dead row has no due time: only an operator ends it, by a replay or a discard.

Clock: all these times are the order store's, whichever process decides: on the cluster the database's clock
(`workers.postgres.clock`), else the machine's. It may jump. So it gives up nothing alone: a row must also have been
retried as often as in some 20 hours of waiting. A due time further ahead than the longest wait is of a clock that was
ahead, and the row is due (`due_ahead_ms`).

On PostgreSQL one race is left to the schedule. A registration that commits while a notification is being parked for the
first time does not see the new row, so it does not wake it: the row is retried after 30 s. A retry locks its row, and
then looks once more for the order, trade or refund (`workers.postgres.load`): otherwise it would undo a wake.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import structs

from schemas import events, scopes, times
from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.events import HeldNotice, HeldWay
from workers.settlement.plan import Disposed, HeldRow, ParsedRecord, ParseFailure

FIRST_WAITS_S = (30, 300)
LATER_WAIT_S = 3600
LOCKED_WAIT_S = 5
WOKEN_MAX = 1000  # rows that one transaction makes due: an account may have a million that wait for it
LOCKED = "another session of the database has locked a row of its order"
TIERS = ("30s", "5m", "1h")
# Alipay itself gives up after 24 hours and 24 minutes. An order that is not registered by then is no race any more.
GIVE_UP_AFTER_S = 25 * 3600
GIVE_UP_AFTER_RETRIES = 20  # in 25 hours there are 24 to 29
JITTER = 0.1
_HAVE_LIMIT = frozenset({Reason.UNKNOWN_ORDER, Reason.UNKNOWN_TRADE, Reason.UNKNOWN_REFUND})  # those of `parked_row`


def due_at_ms(attempts: int, *, first_at_ms: int, now_ms: int, chance: float) -> int | None:
    """Return the moment of the next retry after `attempts` retries; `None` after 25 hours and as many retries.

    `chance` in [0, 1) spreads the moment by ± 10 %, so that rows parked together do not come due together.
    """
    if now_ms - first_at_ms >= GIVE_UP_AFTER_S * 1000 and attempts >= GIVE_UP_AFTER_RETRIES:
        return None
    return _next_ms(attempts, now_ms=now_ms, chance=chance)


def gives_up_at_ms(row: HeldRow) -> int | None:
    """Return the earliest moment at which a parked row is given up; `None` if it has no limit, or is not parked."""
    has_limit = row.disposition is Disposition.PARKED and row.reason in _HAVE_LIMIT
    return row.first_at_ms + GIVE_UP_AFTER_S * 1000 if has_limit else None


def due_ahead_ms(now_ms: int) -> int:
    """Return the moment beyond which no due time lies, unless the clock was ahead when it was set."""
    return now_ms + int(LATER_WAIT_S * 1000 * (1 + JITTER))


def _next_ms(attempts: int, *, now_ms: int, chance: float) -> int:
    wait_s = FIRST_WAITS_S[attempts] if attempts < len(FIRST_WAITS_S) else LATER_WAIT_S
    return now_ms + int(wait_s * 1000 * (1 + JITTER * (2 * chance - 1)))


def tier_of(attempts: int) -> str:
    """Return the metrics label of the wait that follows this many retries: `30s`, `5m` or `1h`."""
    return TIERS[min(attempts, len(FIRST_WAITS_S))]


def order_key(number: str) -> str:
    """Return the `waits_for` of a notification that needs this order to be registered, or to have a payment."""
    return f"order:{number}"


def trade_key(trade: str) -> str:
    """Return the `waits_for` of a refund that needs an order with this trade."""
    return f"trade:{trade}"


def refund_key(refund: str) -> str:
    """Return the `waits_for` of a refund that needs an order that registered its number."""
    return f"refund:{refund}"


def account_key(family: str) -> str:
    """Return the `waits_for` of a record whose account, or the key or setting of it that it needs, is not known yet."""
    return f"account:{family}"


def held_row(
    parsed: ParsedRecord, disposed: Disposed, *, due_ms: int | None, now_ms: int, waits_for: str = ""
) -> HeldRow:
    """Return the row that holds this record: a new one, or its present one with one more attempt.

    A row is identified by its record's position, so a record has at most one.
    """
    held = parsed.held
    return HeldRow(
        position=parsed.position,
        account=parsed.account,
        order=disposed.order,
        notification_id=disposed.notification_id,
        disposition=disposed.disposition,
        reason=disposed.reason,
        detail=disposed.detail,
        record=parsed.record,
        first_at_ms=now_ms if held is None else held.first_at_ms,
        attempts=0 if held is None else held.attempts + 1,
        due_at_ms=due_ms,
        waits_for=waits_for,
        replays=0 if held is None else held.replays,
    )


def parked_row(parsed: ParsedRecord, disposed: Disposed, *, waits_for: str, now_ms: int, chance: float) -> HeldRow:
    """Return the row of a notification that waits for `waits_for`; after 25 hours a quarantined row instead."""
    row = held_row(parsed, disposed, due_ms=None, now_ms=now_ms, waits_for=waits_for)
    due_ms = due_at_ms(row.attempts, first_at_ms=row.first_at_ms, now_ms=now_ms, chance=chance)
    if due_ms is not None:
        return structs.replace(row, due_at_ms=due_ms)
    return structs.replace(
        row,
        disposition=Disposition.QUARANTINED,
        reason=Reason.WAITED_TOO_LONG,
        detail=f"waited 25 hours for {waits_for}",
        waits_for="",
    )


def parked_until_upgrade(parsed: ParsedRecord, disposed: Disposed, *, now_ms: int, chance: float) -> HeldRow:
    """Return the row of a record that a newer release wrote: retried every 30 s without limit, until an upgrade."""
    return held_row(parsed, disposed, due_ms=_next_ms(0, now_ms=now_ms, chance=chance), now_ms=now_ms)


def parked_until_learnt(parsed: ParsedRecord, failure: ParseFailure, *, now_ms: int, chance: float) -> HeldRow:
    """Return the row of a record that waits for its account or key: retried without limit, because it may be added."""
    row = held_row(parsed, failure, due_ms=None, now_ms=now_ms, waits_for=failure.waits_for)
    return structs.replace(row, due_at_ms=_next_ms(row.attempts, now_ms=now_ms, chance=chance))


def parked_until_unlocked(parsed: ParsedRecord, disposed: Disposed, *, now_ms: int) -> HeldRow:
    """Return the row of a record that needs a row which another session has locked: retried every 5 s without limit.

    No attempt is counted, because no record is to blame. The moment has no jitter: an order's records of one batch come
    due together, and are retried in the order of the log.
    """
    row = held_row(parsed, disposed, due_ms=now_ms + LOCKED_WAIT_S * 1000, now_ms=now_ms)
    return row if parsed.held is None else structs.replace(row, attempts=parsed.held.attempts)


def learnt_meanwhile(
    parsed_records: Iterable[ParsedRecord], accounts: Mapping[str, Account], *, is_reloaded: bool
) -> Iterator[tuple[str, str]]:
    """Yield the wakes of records whose account was learnt since they were read: its own wake came before their rows.

    `is_reloaded`: accounts or keys have changed since, perhaps those of a record that could not be verified.
    """
    for parsed in parsed_records:
        failure = parsed.failure
        if failure is None or not failure.waits_for:
            continue
        if failure.reason is Reason.UNVERIFIED and is_reloaded:
            yield parsed.account, failure.waits_for
        elif failure.reason is Reason.UNKNOWN_ACCOUNT:
            account = accounts.get(parsed.account)
            if account is not None and account_key(account.family) == failure.waits_for:
                yield parsed.account, failure.waits_for


def notice(row: HeldRow, parsed: ParsedRecord, *, now_ms: int) -> events.Outgoing:
    """Return the event that announces a held row.

    Its id names one attempt of one row. Two workers that retry the row at once announce it once, and a row that is held
    again days later, for the same reason, is announced again.
    """
    account, auth_app_id = scopes.split(row.account)
    return events.outgoing_notice(
        HeldNotice(
            id=f"held:{row.id}:{row.attempts}:{row.disposition.value}",
            held_id=row.id,
            account=account,
            auth_app_id=auth_app_id,
            order=row.order,
            notification_id=row.notification_id,
            disposition=row.disposition,
            reason=row.reason,
            detail=row.detail,
            at=times.from_epoch_ms(now_ms),
        ),
        HeldWay(
            partition=row.position.partition,
            offset=row.position.offset,
            received_at=times.from_epoch_ms(parsed.received_at_ms),
            first_at=times.from_epoch_ms(row.first_at_ms),
            step="decide" if parsed.failure is None else parsed.failure.step,
            error_class="" if parsed.failure is None else parsed.failure.error_class,
            attempts=row.attempts,
            replays=row.replays,
        ),
    )
