"""Refused notifications that Alipay sends again, and when it will give up on them.

Anyone can send a request that is refused, so one alone means nothing. A notification counts when requests with its id
came at least twice, at moments that fit its account's retry profile (`schemas.retry_profiles`), and only until its next
delivery is overdue: an overdue one was accepted by another receiver, or is not sent. It ends when it is accepted here.
After the last delivery it counts for one more day, because nothing else shows it then.

All this is in bounded memory and lost by a restart. Ids that came once make room for newer ones, so that a flood of
forgeries can hide a notification, but not use more memory. Of those that came again, the ones that came least often
make room. A sender that follows the schedule for hours with one id looks like Alipay.
"""

from collections import OrderedDict
from collections.abc import Mapping

from msgspec import Struct

from schemas import retry_profiles
from schemas.accounts import Account
from schemas.retry_profiles import Tries
from schemas.times import DAY_MS

ONCE_MAX = 20_000  # some 6 MB
AGAIN_MAX = 1000
ID_BYTES_MAX = 128  # Alipay's limit for notify_id
GIVEN_UP_KEPT_MS = DAY_MS

_Key = tuple[str, bytes]


class _Resent(Struct, frozen=True):
    """The moments of one notification's deliveries, and those that are expected after them."""

    received_ms: tuple[int, ...]
    tries: Tries


class Resends:
    """The refused notifications of one receiver, by account and id."""

    def __init__(self, *, once_max: int = ONCE_MAX, again_max: int = AGAIN_MAX) -> None:
        self._once_max = once_max
        self._again_max = again_max
        self._once: OrderedDict[_Key, int] = OrderedDict()  # oldest first
        self._again: dict[_Key, _Resent] = {}

    def refused(self, account: Account, id_: bytes, at_ms: int) -> None:
        """Note a refused request with this id, as the sender claims it; without one there is nothing to note."""
        if not id_ or len(id_) > ID_BYTES_MAX:
            return
        key = (account.name, id_)
        known = self._again.get(key)
        first_ms = self._once.get(key)
        if known is None and first_ms is None:
            self._begin(key, at_ms)
            return
        before = known.received_ms if known is not None else () if first_ms is None else (first_ms,)
        tries = retry_profiles.expected(retry_profiles.of(account), (*before, at_ms))
        if tries is not None and tries.seen > len(before):
            self._once.pop(key, None)
            self._keep(key, _Resent((*before, at_ms), tries), at_ms)
        elif known is not None and _counts(known.tries, at_ms):
            return  # at once after the one before, or between two deliveries: not by the schedule
        elif tries is None or first_ms is None:
            self._again.pop(key, None)
            self._begin(key, at_ms)

    def accepted(self, account: str, id_: bytes) -> None:
        """Forget a notification that was accepted."""
        if self._once or self._again:
            self._once.pop((account, id_), None)
            self._again.pop((account, id_), None)

    def give_up_ms(self, now_ms: int) -> Mapping[str, int]:
        """Return when Alipay gives up first, by account; without the accounts that have no such notification."""
        earliest: dict[str, int] = {}
        for (account, _), resent in self._again.items():
            if _counts(resent.tries, now_ms):
                gives_up_ms = resent.tries.gives_up_ms
                earliest[account] = min(gives_up_ms, earliest.get(account, gives_up_ms))
        return earliest

    def _begin(self, key: _Key, at_ms: int) -> None:
        self._once.pop(key, None)
        if len(self._once) >= self._once_max:
            self._once.popitem(last=False)
        self._once[key] = at_ms

    def _keep(self, key: _Key, resent: _Resent, now_ms: int) -> None:
        if key not in self._again and len(self._again) >= self._again_max:
            self._make_room(now_ms)
        self._again[key] = resent

    def _make_room(self, now_ms: int) -> None:
        """Drop those that do not count, and so many others that it is seldom needed: it looks at all of them."""
        counting = [(key, each) for key, each in self._again.items() if _counts(each.tries, now_ms)]
        counting.sort(key=lambda one: (one[1].tries.seen, one[1].tries.last_ms), reverse=True)
        self._again = dict(counting[: self._again_max * 9 // 10])


def _counts(tries: Tries, now_ms: int) -> bool:
    if tries.next_ms is None:
        return now_ms <= tries.gives_up_ms + GIVEN_UP_KEPT_MS
    return retry_profiles.is_awaited(tries, now_ms)
