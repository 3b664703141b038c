"""The audit rows: each action of an operator with its reason, the newest first."""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

EXAMINED_MAX = 20_000  # rows that one page of the list looks at

# All actions that the releases have written. `replay-log` is that of `alipay-notify replay`.
ACTIONS = (
    "accept",
    "bill_import",
    "callback_disable",
    "callback_enable",
    "callback_resend",
    "discard",
    "erase",
    "refund_outside",
    "register",
    "replay",
    "replay-log",
    "replay_cancel",
    "replay_resume",
    "replay_start",
    "resend",
    "reveal",
    "snooze",
    "task_cancel",
    "task_resume",
    "task_start",
    "unsnooze",
)


class AuditEntry(Struct, frozen=True, kw_only=True):
    """One action. `subject` is a record's position, `scope:order`, an event's id, `replay:number`,
    `task:number` or `bill:number`."""

    number: int
    at_ms: int
    action: str
    subject: str
    by: str
    why: str


class AuditQuery(Struct, frozen=True, kw_only=True):
    """A filter of audit rows, and the page of them; `None` means any. `by` is a part of the operator's name.

    The page begins before the entry `before`.
    """

    by: str | None = None
    action: str | None = None
    subject: str | None = None
    since_ms: int | None = None
    before: int | None = None
    limit: int = 100


class AuditList(Struct, frozen=True, kw_only=True):
    """A page of audit rows, the newest first; `next_` is the `before` of the next page, `None` if there is none.

    A page may have less than its limit and a next page all the same, because it looks at no more than `EXAMINED_MAX`
    rows.
    """

    entries: tuple[AuditEntry, ...]
    next_: int | None


class AuditPort(Protocol):
    """The audit rows of the order store."""

    async def audit_list(self, query: AuditQuery) -> AuditList:
        """Return a page of the rows that match."""

    async def note(self, action: str, subjects: Sequence[str], *, by: str, why: str, now_ms: int) -> None:
        """Write an audit row for each subject of the operator's action."""


def entry(row: Sequence[Any]) -> AuditEntry:
    """Return the entry from the columns of `audit`, in their order."""
    number, at_ms, action, subject, by, why = row
    return AuditEntry(number=number, at_ms=at_ms, action=action, subject=subject, by=by, why=why)


def page(query: AuditQuery, found: Sequence[Sequence[Any]], oldest: Sequence[Any] | None) -> AuditList:
    """Return the page from one match more than it has; `oldest` is the last row that was looked at, if more follow."""
    entries = tuple(map(entry, found[: query.limit]))
    next_ = None if oldest is None else entry(oldest).number
    if len(found) > query.limit:
        next_ = entries[-1].number if entries else None
    elif oldest is not None and query.since_ms is not None and entry(oldest).at_ms < query.since_ms:
        next_ = None
    return AuditList(entries=entries, next_=next_)
