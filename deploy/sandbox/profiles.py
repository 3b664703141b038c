"""When Alipay sends again. Its own pages do not agree, so a schedule is a profile, never a constant.

Gaps run from one delivery to the next, in real seconds; whoever plays a profile divides them by a time scale.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

_MINUTE, _HOUR = 60, 3600
_LONG_TAIL = (1 * _HOUR, 2 * _HOUR, 6 * _HOUR, 15 * _HOUR)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule."""

    name: str
    gaps_s: tuple[float, ...]

    @property
    def deliveries(self) -> int:
        """How often a notification is sent at most."""
        return 1 + len(self.gaps_s)

    def gap_after(self, number: int) -> float | None:
        """Seconds from the `number`th delivery, counted from 1, to the next; None after the last."""
        return self.gaps_s[number - 1] if number <= len(self.gaps_s) else None

    def offset_s(self, number: int) -> float:
        """Seconds from the first delivery to the `number`th, counted from 1.

        Deliveries beyond the schedule, which a scenario of duplicates makes, follow every four minutes: two tellings
        never carry the same moment.
        """
        beyond = max(0, number - self.deliveries)
        return sum(self.gaps_s[: number - 1]) + beyond * 4 * _MINUTE


def _minutes(*gaps: int) -> tuple[float, ...]:
    return tuple(gap * _MINUTE for gap in gaps)


_CN_4M = (*_minutes(4, 10, 10), *_LONG_TAIL)

PROFILES: Mapping[str, Profile] = {
    one.name: one
    for one in (
        Profile(name="cn-4m", gaps_s=_CN_4M),
        Profile(name="global-2m", gaps_s=(*_minutes(2, 10, 10), *_LONG_TAIL)),
        Profile(name="odoo", gaps_s=(*_minutes(2, 10, 15), *_LONG_TAIL)),
        Profile(name="alt-5s", gaps_s=(5, *_minutes(2, 10, 15), *_LONG_TAIL)),
        # The first resend follows at once; read as gaps, the document's list makes nine deliveries.
        Profile(name="antom", gaps_s=(0, *_minutes(2, 10, 10), *_LONG_TAIL)),
        Profile(name="antom-sandbox", gaps_s=()),
        # Some product pages: three tries at once, then the Chinese schedule.
        Profile(name="cn-immediate3", gaps_s=(0, 0, *_CN_4M)),
        # Not Alipay's: one try, for a program that asserts on the answer itself.
        Profile(name="once", gaps_s=()),
    )
}
