"""The trouble of a store: which success ends which failure."""

import pytest
from msgspec import structs

from tests.support.clocks import Clock
from workers import store_trouble
from workers.settlement import loading
from workers.settlement.plan import Position
from workers.store_trouble import AGED_S, StoreTrouble, WorkKind


@pytest.mark.parametrize("failing", WorkKind)
@pytest.mark.parametrize("succeeding", WorkKind)
def test_success_ends_the_trouble_of_its_own_kind_and_of_lesser_kinds(failing: WorkKind, succeeding: WorkKind) -> None:
    trouble = StoreTrouble()
    trouble.failed(failing, "full")
    trouble.succeeded(succeeding)
    assert trouble.text == (None if failing <= succeeding else "full")


def test_trouble_of_a_batch_is_told_before_that_of_a_read() -> None:
    trouble = StoreTrouble()
    trouble.failed(WorkKind.SETTLE, "full")
    trouble.failed(WorkKind.READ, "slow")
    assert trouble.text == "full"
    trouble.succeeded(WorkKind.READ)
    assert trouble.text == "full"


def test_trouble_of_a_batch_lasts_while_the_batch_is_repeated() -> None:
    clock = Clock()
    trouble = StoreTrouble(now_s=clock)
    for _ in range(10):
        trouble.failed(WorkKind.SETTLE, "full")
        clock.now_s += AGED_S - 1
        assert trouble.text == "full"


def test_failed_batch_that_is_never_repeated_does_not_count_for_ever() -> None:
    clock = Clock()
    trouble = StoreTrouble(now_s=clock)
    trouble.failed(WorkKind.SETTLE, "full")
    clock.now_s += AGED_S + 1
    assert trouble.text is None


def test_settlement_without_records_proves_no_more_than_a_write() -> None:
    none = loading.load_request([])
    assert store_trouble.kind(none) is WorkKind.WRITE
    assert store_trouble.kind(structs.replace(none, positions=frozenset([Position(0, 1)]))) is WorkKind.SETTLE
