"""Which notification a record is: one more delivery of a known one, or one of its own. Pure; used by `decision`.

Alipay's forms have an id, which other content must not have. Antom's messages have none. Ours is made of what a message
is about, so two messages may share it: a second payment of an order, one more failed attempt, a later end of an
authorisation. Then the digest of the content is added, and the facts decide whether the two contradict each other.
"""

from collections.abc import Mapping

from msgspec import structs

from schemas.notification import Notification
from workers.settlement.plan import AccountKey, HeldRow, LedgerEntry, ParsedRecord


def ids_of(parsed: ParsedRecord) -> tuple[str, ...]:
    """Return the ids that the record's notification may have; none if it has none that could be read."""
    notification, failure = parsed.notification, parsed.failure
    if notification is None:
        return (failure.notification_id,) if failure is not None and failure.notification_id else ()
    return (notification.id, notification.content_id) if notification.content_id else (notification.id,)


def identified(
    notification: Notification, held: HeldRow | None, ledger: Mapping[AccountKey, LedgerEntry]
) -> Notification:
    """Return the notification under its own id: that with its content, if the other one is of other content."""
    known = ledger.get((notification.account, notification.id))
    if not notification.content_id or known is None or known.digest == notification.digest:
        return as_held(notification, held)
    return structs.replace(notification, id=notification.content_id)


def as_held(notification: Notification, held: HeldRow | None) -> Notification:
    """Return the notification under the id that it was held with."""
    if held is None or not notification.content_id or held.notification_id != notification.content_id:
        return notification
    return structs.replace(notification, id=notification.content_id)


def shares_number(notification: Notification) -> bool:
    """Return whether another message has the number of this one, but other content.

    One number is one refund or capture, so a fact of its own contradicts the other one. Payments need no such rule,
    because their claims show a contradiction.
    """
    return notification.id == notification.content_id


def is_first_record(parsed: ParsedRecord, known: LedgerEntry) -> bool:
    """Return whether this is a retry of the very record that brought the notification, and no copy of it.

    A record that became a dead letter before it was decided is not in the ledger. If a copy is decided before the dead
    letter is replayed, the copy is the first one.
    """
    return parsed.held is not None and parsed.position == known.position
