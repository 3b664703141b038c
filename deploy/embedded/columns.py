"""The names of the store's columns, in the order of `workers.row_codec`, and how many go into one parameter. Pure."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from workers.settlement.plan import Named

ORDER = "facts, status, closed_because, trade, amount_minor, currency, refunded_minor, flags"
DELIVERY = (
    "log_partition, log_offset, account, order_number, notification_id, type, status, news, disposition, reason, "
    "detail, version, received_at_ms, decided_at_ms"
)
HELD = (
    "log_partition, log_offset, account, order_number, notification_id, disposition, reason, detail, key, value, "
    "headers, first_at_ms, attempts, due_at_ms, waits_for"
)
HELD_PAGE = f"{HELD}, resolved_at_ms, resolution, by_whom, why, replays"
EMITTED = "number, id, topic, key, value, headers, sent_at_ms"

_to_json = msgspec.json.Encoder().encode


def by_account(names: Iterable[Named]) -> Iterator[tuple[str, str]]:
    """(account, its numbers as a JSON array): what `json_each` takes in one parameter, however many there are."""
    numbers: dict[str, list[str]] = {}
    for account, number in names:
        numbers.setdefault(account, []).append(number)
    for account, of_account in numbers.items():
        yield account, as_json(sorted(of_account))


def as_json(values: Sequence[str] | Sequence[int]) -> str:
    return _to_json(values).decode()
