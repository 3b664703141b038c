"""What the audit says of a snooze, and of its end."""

from workers import snoozes
from workers.queries import Snooze


def test_audit_row_says_until_when_or_that_it_has_ended() -> None:
    snooze = Snooze(until_ms=1000, by="kim", why="asked")
    assert snoozes.audited(snooze, "noon", now_ms=999) == ("snooze", "until noon: asked")
    assert snoozes.audited(snooze, "noon", now_ms=1000) == ("unsnooze", "asked")
