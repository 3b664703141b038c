"""A held record that is replayed after a copy of its notification was decided, in every order store."""

from collections.abc import Callable
from typing import Any

import pytest

from schemas.dispositions import Disposition, Reason
from tests.contract.engines import AnyStore
from tests.support import log_records
from tests.support.planted_failures import FAILURES
from workers.processing import Processing
from workers.queries import HeldQuery

RESENT = "2025-10-09 16:57:20"


@pytest.mark.parametrize("fails", FAILURES)
async def test_replayed_record_is_a_duplicate_of_its_copy_by_id(
    work: Processing, store: AnyStore, fails: Callable[[], Any]
) -> None:
    first, resent = log_records.record("N1"), log_records.record("N1", notify_time=RESENT)
    with fails():
        await work.process(log_records.logged([first]))
    await work.process(log_records.logged([resent], first=2))
    await work.retry([page.row for page in await store.held_list(HeldQuery())])
    page = await store.order_page("shop-sg", "N1")
    assert page is not None
    assert page.order is not None
    assert page.order.version == 1
    assert [(each.position.offset, each.disposition, each.reason) for each in page.deliveries] == [
        (1, Disposition.DUPLICATE, Reason.SAME_ID),
        (2, Disposition.APPLIED, Reason.CHANGED),
    ]


@pytest.mark.parametrize("fails", FAILURES)
async def test_copy_is_a_duplicate_of_the_record_that_was_replayed_first(
    work: Processing, store: AnyStore, fails: Callable[[], Any]
) -> None:
    with fails():
        await work.process(log_records.logged([log_records.record("N1"), log_records.record("N2")]))
    await work.retry([page.row for page in await store.held_list(HeldQuery())])
    await work.process(log_records.logged([log_records.record("N1", notify_time=RESENT)], first=3))
    page = await store.order_page("shop-sg", "N1")
    assert page is not None
    assert [(each.disposition, each.reason) for each in page.deliveries] == [
        (Disposition.APPLIED, Reason.CHANGED),
        (Disposition.DUPLICATE, Reason.SAME_ID),
    ]
