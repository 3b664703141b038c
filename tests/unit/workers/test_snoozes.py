"""What the audit says of a snooze, and of its end."""

from workers import snoozes
from workers.queries import Snooze


def test_audit_row_says_until_when_or_that_it_has_ended() -> None:
    snooze = Snooze(until_ms=1000, by="kim", why="asked")
    assert snoozes.audited(snooze, now_ms=999) == ("snooze", "until 1970-01-01T00:00:01+00:00: asked")
    assert snoozes.audited(snooze, now_ms=1000) == ("unsnooze", "asked")
