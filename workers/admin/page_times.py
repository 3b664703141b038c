"""Times as the console's pages show them: the time of day, the whole moment, and how long ago it was. Pure."""

from datetime import UTC, datetime

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def clock(moment: datetime) -> str:
    """Return the time of day in UTC, with milliseconds."""
    return moment.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def day(moment: datetime) -> str:
    """Return the moment in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago it was; the script does the same (`ago` in script.js)."""
    seconds = (now - moment).total_seconds()
    return "in the future" if seconds < -1 else f"{span(seconds)} ago" if seconds >= 1 else "now"


def span(seconds: float) -> str:
    """Return a length of time in its largest unit, with one decimal below ten hours or days."""
    left = max(0.0, seconds)
    for unit, size in _UNITS:
        if left >= size:
            count = left / size
            has_decimal = unit in ("d", "h") and count < 10
            return f"{int(count * 10) / 10:g} {unit}" if has_decimal else f"{int(count)} {unit}"
    return "0 s"


FILTERS = {"clock": clock, "day": day, "ago": ago, "span": span}
