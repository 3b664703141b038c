"""Counts the notifications that a test sends through real engines, for the report of a run.

`tests.conftest` writes the count into the results of the test.
"""

NOTIFICATIONS = "notifications"  # the name of the count in a test's results

_sent = 0


def add(count: int) -> None:
    """Count notifications that were sent and judged."""
    global _sent
    _sent += count


def take() -> int:
    """Return the count since the last call."""
    global _sent
    taken, _sent = _sent, 0
    return taken
