"""The sources of one request, in every order, are one delivery; two requests stay two."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from deploy.shadow import directory, joining
from deploy.shadow.directory import Shadow
from deploy.shadow.report import ShadowReport
from deploy.shadow.shapes import MirroredRequest, OldAction, OldReaction
from tests.support import alipay
from tests.unit.deploy.shadow.shadow_folder import AT_MS, copy, line

ANSWERED = OldReaction(status=200)
APPLIED = OldReaction(action=OldAction.APPLIED)
BOTH = OldReaction(status=200, body="success", action=OldAction.APPLIED)


@pytest.fixture
async def shadow(tmp_path: Path) -> AsyncIterator[Shadow]:
    async with directory.opened(tmp_path / "shadow", alipay.accounts_file(tmp_path)) as opened:
        yield opened


async def reported(shadow: Shadow, *requests: MirroredRequest) -> ShadowReport:
    """Add the requests one by one; return the report."""
    for request in requests:
        await shadow.add([request])
    await shadow.catch_up()
    return await shadow.report(limit=0, progressed=lambda count: None)


SOURCES = (copy("A", "r1"), line("A", "r1", old=ANSWERED), line("A", "r1", old=BOTH))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_copy_and_both_logs_of_one_request_are_one_delivery_in_any_order(
    shadow: Shadow, order: tuple[int, ...]
) -> None:
    # Lines around it, so that a copy without an answer would count as never seen.
    around = [line("B", "r0", at_ms=AT_MS - 9, old=BOTH), line("C", "r2", at_ms=AT_MS + 9, old=BOTH)]
    report = await reported(shadow, *around, *(SOURCES[index] for index in order))
    assert (report.notifications, report.without_reaction, report.repeated, report.counts) == (3, 0, 0, {})


async def test_line_without_a_number_is_joined_to_the_nearest_copy(shadow: Shadow) -> None:
    near, far = line("A", at_ms=AT_MS + 1000, old=ANSWERED), line("A", at_ms=AT_MS + 90_000, old=ANSWERED)
    report = await reported(shadow, near, far, copy("A", at_ms=AT_MS + 89_000), copy("A"))
    assert (report.notifications, report.without_reaction, report.counts) == (2, 0, {})
    report = await reported(shadow, copy("B"), line("B", at_ms=AT_MS + 5, old=APPLIED))
    assert (report.notifications, report.without_reaction) == (3, 0)


async def test_other_request_is_another_delivery(shadow: Shadow) -> None:
    too_far = line("B", at_ms=AT_MS + joining.APART_MS_MAX + 1, old=ANSWERED)
    requests = [line("A", "r1", old=ANSWERED), copy("A", "r2"), line("A", "r3", old=BOTH), too_far, copy("B")]
    report = await reported(shadow, *requests)
    assert (report.notifications, report.without_reaction) == (5, 2)
    assert report.counts == {"never_seen": 2}


async def test_lines_of_a_log_without_numbers_are_a_delivery_each(shadow: Shadow) -> None:
    report = await reported(shadow, line("A", old=BOTH), line("A", at_ms=AT_MS + 1000, old=BOTH))
    assert (report.notifications, report.counts) == (2, {"taken_twice": 1})


async def test_handler_that_applied_one_request_twice_took_it_twice(shadow: Shadow) -> None:
    report = await reported(shadow, line("A", "r1", old=BOTH), line("A", "r1", at_ms=AT_MS + 10, old=BOTH))
    assert (report.notifications, report.counts) == (2, {"taken_twice": 1})


@pytest.mark.parametrize(
    ("one", "other", "kind", "reason"),
    [
        (OldReaction(status=200), OldReaction(body="fail"), "refused_accepted", "other_text"),
        (OldReaction(status=499), OldReaction(status=200, body="success"), "not_acknowledged", "status_499"),
        (OldReaction(status=0), OldReaction(status=200, body="fail"), "not_acknowledged", "no_answer"),
    ],
)
@pytest.mark.parametrize("is_turned", [False, True])
async def test_worse_answer_of_two_logs_counts(
    shadow: Shadow, one: OldReaction, other: OldReaction, kind: str, reason: str, is_turned: bool
) -> None:
    lines = [line("A", "r1", old=one), line("A", "r1", old=other)]
    report = await reported(shadow, *(reversed(lines) if is_turned else lines))
    assert [(each.kind.value, each.reason) for each in report.shown] == [(kind, reason)]


async def test_authentic_copy_counts_beside_a_line_whose_headers_were_not_logged(shadow: Shadow) -> None:
    odd = structs.replace(line("A", "r1", old=BOTH), headers={"content-type": "text/plain"})
    assert (await reported(shadow, odd)).counts == {"accepted_refused": 1}
    report = await reported(shadow, copy("A", "r1"), line("B", "r2", old=BOTH))
    assert (report.notifications, report.authentic, report.counts) == (2, 2, {})
    assert await shadow.book.last_offset() == 2
