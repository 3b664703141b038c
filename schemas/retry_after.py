"""The wait that an HTTP answer asks for in its header `Retry-After` (RFC 9110, 10.2.3). Pure."""

from datetime import UTC
from email.utils import parsedate_to_datetime

from schemas import times

_DIGITS_MAX = 12  # of seconds: 30,000 years


def wait_ms(text: str, *, now_ms: int, most_ms: int) -> int:
    """Return the wait in milliseconds, from 0 to `most_ms`.

    The text is a number of seconds or a date in one of HTTP's three forms. It is 0 if the date is past, and for every
    other text, such as a negative number.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0") or "0"
        return most_ms if len(digits) > _DIGITS_MAX else min(int(digits) * 1000, most_ms)
    try:
        at = parsedate_to_datetime(text)
        # The form of C's asctime has no zone, and is in GMT as the others are.
        at_ms = times.to_epoch_ms(at if at.tzinfo is not None else at.replace(tzinfo=UTC))
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0
    return max(0, min(at_ms - now_ms, most_ms))
