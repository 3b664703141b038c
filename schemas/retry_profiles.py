"""When Alipay sends a notification again, until it is answered correctly. Pure.

Alipay's own pages disagree on the schedule, so there are several profiles, and an account may name one. The default is
the one that most documents of its family have; for the old gateway's domestic notifications it was measured. Gaps run
from one delivery to the next. A notification that was acknowledged is not sent again.

When requests of one notification came is compared with the account's profile (`expected`). Real deliveries are up to a
minute late, and the first may be missing here: another receiver got it, or this process was not running.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from schemas.accounts import Account, Family

_MINUTE, _HOUR = 60, 3600
_LONG_TAIL = (1 * _HOUR, 2 * _HOUR, 6 * _HOUR, 15 * _HOUR)
_CN_4M = (4 * _MINUTE, 10 * _MINUTE, 10 * _MINUTE, *_LONG_TAIL)
APART_S = 60  # deliveries that are closer count as one
LATE_S = 90
LATE_SHARE = 0.01


class Profile(Struct, frozen=True, kw_only=True):
    """One retry schedule."""

    name: str
    gaps_s: tuple[float, ...]

    @property
    def deliveries(self) -> int:
        """Return how often a notification is sent at most."""
        return 1 + len(self.gaps_s)

    def gap_after(self, number: int) -> float | None:
        """Return the seconds from delivery `number`, counted from 1, to the next; `None` after the last."""
        return self.gaps_s[number - 1] if number <= len(self.gaps_s) else None

    def offset_s(self, number: int) -> float:
        """Return the seconds from the first delivery to delivery `number`, counted from 1.

        Deliveries beyond the schedule, as in a scenario with duplicates, follow every four minutes, so that no two
        have the same `notify_time`.
        """
        beyond = max(0, number - self.deliveries)
        return sum(self.gaps_s[: number - 1]) + beyond * 4 * _MINUTE

    @property
    def resent_ms(self) -> int:
        """Return for how many milliseconds a notification may come after its first delivery; the last may be late."""
        last_ms = sum(self.gaps_s) * 1000
        return round(last_ms) + late_ms(last_ms)


PROFILES: Mapping[str, Profile] = {
    one.name: one
    for one in (
        Profile(name="cn-4m", gaps_s=_CN_4M),
        Profile(name="global-2m", gaps_s=(2 * _MINUTE, 10 * _MINUTE, 10 * _MINUTE, *_LONG_TAIL)),
        Profile(name="odoo", gaps_s=(2 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, *_LONG_TAIL)),
        Profile(name="alt-5s", gaps_s=(5, 2 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, *_LONG_TAIL)),
        # The first resend follows at once. Read as gaps, the list in the document gives nine deliveries.
        Profile(name="antom", gaps_s=(0, 2 * _MINUTE, 10 * _MINUTE, 10 * _MINUTE, *_LONG_TAIL)),
        Profile(name="antom-sandbox", gaps_s=()),
        # From some product pages: three deliveries at once, then the Chinese schedule.
        Profile(name="cn-immediate3", gaps_s=(0, 0, *_CN_4M)),
    )
}
DEFAULTS: Mapping[Family, str] = {Family.MAPI: "cn-4m", Family.OPENAPI: "cn-4m", Family.ANTOM: "antom"}


class Tries(Struct, frozen=True, kw_only=True):
    """The deliveries of a notification that is not accepted: `seen` is the number of those that came here.

    `next_ms` is `None` if the last one was the last of all, and `gives_up_ms` is the moment of that.
    """

    first_ms: int
    last_ms: int
    seen: int
    next_ms: int | None
    gives_up_ms: int


def of(account: Account) -> Profile:
    """Return the account's retry profile."""
    return PROFILES[account.retry_profile or DEFAULTS[account.family]]


def late_ms(since_ms: float) -> int:
    """Return by how much a delivery may differ from its moment, so long after the first one that came."""
    return round(LATE_S * 1000 + LATE_SHARE * since_ms)


def expected(profile: Profile, received_ms: Iterable[int]) -> Tries | None:
    """Return the deliveries expected after the requests of one notification, by the moments at which these came.

    Of one request alone it is assumed that it was the first delivery. Returns `None` if there is none, or if the
    moments do not fit the profile: then they were not sent by it.
    """
    moments = _apart(sorted(received_ms), APART_S * 1000)
    offsets = _apart(
        [round(profile.offset_s(number) * 1000) for number in range(1, profile.deliveries + 1)], APART_S * 1000
    )
    if not moments:
        return None
    for start in range(len(offsets)):
        place = _last_place(moments, offsets, start)
        if place is not None:
            last_ms = moments[-1]
            following = offsets[place + 1 : place + 2]
            return Tries(
                first_ms=moments[0],
                last_ms=last_ms,
                seen=len(moments),
                next_ms=last_ms + following[0] - offsets[place] if following else None,
                gives_up_ms=last_ms + offsets[-1] - offsets[place],
            )
    return None


def is_awaited(tries: Tries, now_ms: int) -> bool:
    """Return whether its next delivery has not come yet, and is not overdue.

    An overdue one was taken by another receiver, or will not come.
    """
    return tries.next_ms is not None and now_ms <= tries.next_ms + late_ms(tries.next_ms - tries.first_ms)


def _last_place(moments: Sequence[int], offsets: Sequence[int], start: int) -> int | None:
    """Return the place of the last moment in the schedule, if the first one is at `start` and each has a place."""
    place = start
    for moment in moments[1:]:
        since_ms = moment - moments[0]
        fitting = (
            later
            for later in range(place + 1, len(offsets))
            if abs(offsets[later] - offsets[start] - since_ms) <= late_ms(since_ms)
        )
        found = next(fitting, None)
        if found is None:
            return None
        place = found
    return place


def _apart(moments: Sequence[int], least_ms: int) -> list[int]:
    """Leave out the moments that follow the one before too soon."""
    kept: list[int] = []
    for moment in moments:
        if not kept or moment - kept[-1] >= least_ms:
            kept.append(moment)
    return kept
