"""What was told of each order and how it was answered: what the judge holds against the store.

An attempt that was answered `success` is certain: the notification is in the log. One that was refused with a 4xx is
certain too: it is not. A 503, a time-out, a lost connection say nothing: the notification may have arrived or not, and
either is right. The same goes for a 200 with another word, or a redirect; but no receiver may answer so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from deploy.load.open_loop import Attempt
from deploy.load.pool import Told

Named = tuple[str, str]  # account, order


class Heard(Struct, kw_only=True):
    """One notification: how many of its sendings were acknowledged, may have arrived, were turned away; and how many of
    those that may have arrived were answered as no receiver may answer."""

    told: Told
    acknowledged: int = 0
    uncertain: int = 0
    turned_away: int = 0
    misanswered: int = 0


class OrderTold(Struct, frozen=True, kw_only=True):
    """All that the run told of one order, by notification id."""

    account: str
    order: str
    heard: dict[str, Heard] = field(default_factory=dict)
    forged: dict[str, Heard] = field(default_factory=dict)

    @property
    def was_called(self) -> bool:
        """Whether the receiver has heard anything of it, be it only to refuse it."""
        heard = (*self.heard.values(), *self.forged.values())
        return any(one.acknowledged or one.uncertain or one.turned_away for one in heard)


def orders(told: Sequence[Told], attempts: Iterable[Attempt]) -> Mapping[Named, OrderTold]:
    """Every order of which a request was due. `attempts` name requests by their index in `told`."""
    found: dict[Named, OrderTold] = {}
    for one in told:
        named = (one.account, one.order)
        if named not in found:
            found[named] = OrderTold(account=one.account, order=one.order)
        _kept(found[named], one)
    for attempt in attempts:
        one = told[attempt.index]
        _count(_kept(found[one.account, one.order], one), attempt)
    return found


def _kept(order: OrderTold, told: Told) -> Heard:
    place = order.forged if told.forged else order.heard
    if told.notify_id not in place:
        place[told.notify_id] = Heard(told=told)
    return place[told.notify_id]


def _count(heard: Heard, attempt: Attempt) -> None:
    if attempt.outcome == "ok":
        heard.acknowledged += 1
    elif attempt.outcome == "refused" and 400 <= attempt.status < 500:
        heard.turned_away += 1
    elif attempt.outcome != "unsent":
        heard.uncertain += 1
        heard.misanswered += attempt.outcome == "refused" and attempt.status < 400
