"""The deliveries of one notification among the requests that came: the number of each, and which was accepted. Pure.

A notification without an id is a delivery by itself.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from workers.settlement.plan import Delivery


class Came(Struct, frozen=True, kw_only=True):
    """A delivery's number among those of its notification, from 1, by its arrival. `moments_ms` are those of all."""

    number: int
    is_last: bool
    moments_ms: tuple[int, ...]

    @property
    def first_ms(self) -> int:
        return self.moments_ms[0]


def numbered(requests: Iterable[tuple[str, int]]) -> list[Came]:
    """Return the number of each request, which is given by its notification's id and the moment of its arrival."""
    given = list(requests)
    places: dict[str, list[int]] = {}
    for place, (id_, _) in enumerate(given):
        places.setdefault(id_ or f"at {place}", []).append(place)
    found: dict[int, Came] = {}
    for same in places.values():
        by_arrival = sorted(same, key=lambda place: given[place][1])
        moments_ms = tuple(given[place][1] for place in by_arrival)
        for index, place in enumerate(by_arrival):
            found[place] = Came(number=index + 1, is_last=index == len(same) - 1, moments_ms=moments_ms)
    return [found[place] for place in range(len(given))]


def is_accepted_after(deliveries: Sequence[Delivery], id_: str, at_ms: int) -> bool:
    """Return whether a notification came once more after this moment, and was accepted."""
    return bool(id_) and any(each.notification_id == id_ and each.received_at_ms >= at_ms for each in deliveries)
