"""What the audit says of a snooze and of its end, and how that is read again."""

import pytest

from schemas import times
from workers import snoozes
from workers.queries import Snooze


def test_audit_row_says_until_when_or_that_it_has_ended() -> None:
    snooze = Snooze(until_ms=1000, by="kim", why="asked")
    assert snoozes.audited(snooze, now_ms=999) == ("snooze", "until 1970-01-01T00:00:01+00:00: asked")
    assert snoozes.audited(snooze, now_ms=1000) == ("unsnooze", "asked")


@pytest.mark.parametrize("until_ms", [1000, 1_760_000_000_123])
@pytest.mark.parametrize("why", ["asked", "", "until 4: then", "a: b"])
def test_audit_row_is_read_again(until_ms: int, why: str) -> None:
    _, reason = snoozes.audited(Snooze(until_ms=until_ms, by="kim", why=why), now_ms=0)
    assert snoozes.until_and_why(reason) == (times.from_epoch_ms(until_ms), why)


@pytest.mark.parametrize("reason", ["", "asked", "until tomorrow: asked", "until 2026-01-31T08:00:00: no zone"])
def test_reason_of_another_form_names_no_time(reason: str) -> None:
    assert snoozes.until_and_why(reason) == (None, reason)
