"""Times as the console's pages show them: Alipay's time of day, the whole moment, and how long ago it was. Pure.

Alipay's messages and merchant portal have the time of Beijing, UTC+8, and people compare. The script adds the time of
the viewer's own zone (`showZones` in script.js).
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from schemas.times import BEIJING
from workers.admin.texts import ENGLISH, Texts

HOUR_S, DAY_S = 3600, 86_400

# text, seconds of the unit, from how many seconds on
_UNITS = (
    ("{count} d", DAY_S, 2 * DAY_S),
    ("{count} h", HOUR_S, HOUR_S),
    ("{count} min", 60, 60),
    ("{count} s", 1, 1),
)


def clock(moment: datetime) -> str:
    """Return the time of day in UTC+8, with milliseconds."""
    return moment.astimezone(BEIJING).strftime("%H:%M:%S.%f")[:-3]


def day(moment: datetime) -> str:
    """Return the moment in UTC+8, to the second."""
    return moment.astimezone(BEIJING).strftime("%Y-%m-%d %H:%M:%S")


def date(moment: datetime) -> str:
    """Return the day in UTC+8."""
    return moment.astimezone(BEIJING).strftime("%Y-%m-%d")


def ago(moment: datetime, now: datetime, texts: Texts = ENGLISH) -> str:
    """Return how long ago it was; the script does the same (`ago` in script.js)."""
    seconds = (now - moment).total_seconds()
    if seconds < -1:
        return texts.of("in the future")
    return texts.of("{span} ago", span=span(seconds, texts)) if seconds >= 1 else texts.of("now")


def until(moment: datetime, now: datetime, texts: Texts = ENGLISH) -> str:
    """Return in how long it will be."""
    seconds = (moment - now).total_seconds()
    return texts.of("in {span}", span=span(seconds, texts)) if seconds >= 1 else texts.of("now")


def since(moment: datetime, now: datetime, texts: Texts = ENGLISH) -> str:
    """Return how long it has lasted."""
    return span((now - moment).total_seconds(), texts)


def span(seconds: float, texts: Texts = ENGLISH) -> str:
    """Return a length of time in one unit, with one decimal below ten hours or days; up to two days in hours."""
    left = max(0.0, seconds)
    for text, size, least in _UNITS:
        if left >= least:
            count = left / size
            has_decimal = size >= HOUR_S and count < 10
            return texts.of(text, count=f"{int(count * 10) / 10:g}" if has_decimal else f"{int(count)}")
    return texts.of("{count} s", count=0)


def filters(texts: Texts) -> dict[str, Callable[..., str]]:
    """Return the filters of the templates in a language."""
    spans = {each.__name__: partial(each, texts=texts) for each in (ago, until, since)}
    return {"clock": clock, "day": day, "date": date, **spans}
