"""The entries of an order's timeline, as the API and the console show them."""

from datetime import datetime
from typing import Protocol

from msgspec import Struct

from schemas.dispositions import Disposition, Reason


class RefusedRequest(Protocol):
    """A refused request that claimed to be about an order; its claims are not verified."""

    @property
    def notification_id(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def received_at_ms(self) -> int: ...


class HeldStep(Struct, frozen=True, kw_only=True, tag_field="kind", tag="held"):
    """The notification was held: `reason` is the last for which it was, and `attempts` its retries.

    `due_at` is the next retry, null if there is none.
    """

    disposition: Disposition
    reason: Reason
    detail: str
    attempts: int
    due_at: datetime | None
    at: datetime


class ReplayStep(Struct, frozen=True, kw_only=True, tag_field="kind", tag="replay"):
    """An operator had it retried."""

    by: str
    why: str
    at: datetime


class SnoozeStep(Struct, frozen=True, kw_only=True, tag_field="kind", tag="snooze"):
    """An operator took it out of the first list and of the gauges, until a moment.

    A later snooze takes its place. `until` is null if its audit row names no time.
    """

    until: datetime | None
    by: str
    why: str
    at: datetime


class UnsnoozeStep(Struct, frozen=True, kw_only=True, tag_field="kind", tag="unsnooze"):
    """An operator ended its snooze."""

    by: str
    why: str
    at: datetime


class SettledStep(Struct, frozen=True, kw_only=True, tag_field="kind", tag="settled"):
    """It was held, and then settled by a retry."""

    disposition: Disposition
    at: datetime


Step = HeldStep | ReplayStep | SnoozeStep | UnsnoozeStep | SettledStep


class NotificationEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="notification"):
    """One authentic notification, and its disposition. `steps` is its way if it is held, or was: oldest first.

    It was acknowledged, so Alipay does not send it again. `delivery` is its number, from 1, among those with its id, of
    which the first came at `first_received_at`.

    Personal data was erased from its bytes at `erased_at`, null if it was not; they cannot be verified since.

    If `is_answer`, it was not sent: it is Alipay's answer to a question of ours, because no notification came.
    """

    notification_id: str
    type: str
    status: str
    news: str
    disposition: Disposition
    reason: Reason
    detail: str
    version: int | None
    delivery: int
    first_received_at: datetime
    received_at: datetime
    decided_at: datetime
    position: str
    erased_at: datetime | None
    steps: tuple[Step, ...]
    is_answer: bool


class EventEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="event"):
    """One event for consumers. `sent_at` is null until its topic has acknowledged it."""

    id: str
    type: str
    version: int
    occurred_at: datetime
    sent_at: datetime | None


class RegisteredEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="registered"):
    """The merchant registered the order, or a refund of it: `what` has the amounts and refunds."""

    by: str
    what: str
    at: datetime


class ErasedEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="erased"):
    """An operator had personal data erased from the bytes of the order's notifications."""

    by: str
    why: str
    at: datetime


class ResentEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="resent"):
    """An operator had events of the order sent again: to the callback `endpoint`, to all consumers if it is null.

    `versions` are those of the events; empty if they went to an endpoint.
    """

    versions: tuple[int, ...]
    endpoint: str | None
    by: str
    why: str
    at: datetime


class RefusedEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="refused"):
    """One refused request. They are kept in memory only, so older ones are missing.

    `delivery` is its number, from 1, among the requests with its notification id, which its sender claims; the first of
    them came at `first_at`. `next_at` and `gives_up_at` are the next and the last delivery by the account's retry
    profile, if the request is Alipay's: a refused one may be forged. They are null if a newer one came, if it was
    accepted meanwhile, if Alipay has given up, or if the requests do not fit the profile.
    """

    reason: str
    notification_id: str
    delivery: int
    first_at: datetime
    is_accepted: bool
    next_at: datetime | None
    gives_up_at: datetime | None
    at: datetime


class DecisionEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="decision"):
    """An operator's decision on a held notification of the order: `action` is accept, discard or refund_outside.

    The amount refunded outside is `refunded_minor` in smallest units, `refunded` as a text; both are null otherwise.
    """

    action: str
    held_id: str
    notification_id: str
    version: int | None
    refunded_minor: int | None
    refunded: str | None
    currency: str | None
    by: str
    why: str
    at: datetime


class ClaimEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="claim"):
    """An authentic message that may name the order, or may not: nothing in it can be believed.

    It has changed nothing. `resolution` is `discarded` once an operator has ended it, and empty until then.
    """

    notification_id: str
    reason: Reason
    detail: str
    resolution: str
    received_at: datetime
    position: str


Entry = (
    NotificationEntry
    | EventEntry
    | RegisteredEntry
    | ErasedEntry
    | ResentEntry
    | RefusedEntry
    | DecisionEntry
    | ClaimEntry
)
