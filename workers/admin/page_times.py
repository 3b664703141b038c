"""Times as the console's pages show them: the time of day, the whole moment, and how long ago it was. Pure."""

from datetime import UTC, datetime

_UNITS = (("d", 86_400, 2 * 86_400), ("h", 3600, 3600), ("min", 60, 60), ("s", 1, 1))  # name, seconds, from how many


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


def until(moment: datetime, now: datetime) -> str:
    """Return in how long it will be."""
    seconds = (moment - now).total_seconds()
    return f"in {span(seconds)}" if seconds >= 1 else "now"


def since(moment: datetime, now: datetime) -> str:
    """Return how long it has lasted."""
    return span((now - moment).total_seconds())


def span(seconds: float) -> str:
    """Return a length of time in one unit, with one decimal below ten hours or days; up to two days in hours."""
    left = max(0.0, seconds)
    for unit, size, least in _UNITS:
        if left >= least:
            count = left / size
            has_decimal = unit in ("d", "h") and count < 10
            return f"{int(count * 10) / 10:g} {unit}" if has_decimal else f"{int(count)} {unit}"
    return "0 s"


FILTERS = {"clock": clock, "day": day, "ago": ago, "until": until, "since": since}
