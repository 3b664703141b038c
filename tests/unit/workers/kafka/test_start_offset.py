"""Where reading begins: group, store and log agree, or the store is older, or records are gone."""

import pytest
from msgspec import structs

from workers.errors import InfrastructureDamaged
from workers.kafka import start_offset
from workers.kafka.start_offset import MARGIN, PartitionState, StartOffset


def known(*, committed: int | None, settled: int | None, first: int = 0, end: int = 10_000) -> PartitionState:
    return PartitionState(partition=3, committed=committed, settled=settled, first=first, end=end)


@pytest.mark.parametrize(
    ("seen", "offset"),
    [
        (known(committed=None, settled=None), 0),
        (known(committed=None, settled=None, first=70), 70),
        (known(committed=None, settled=5000), 0),  # the group was forgotten: again from the first, as duplicates
        (known(committed=None, settled=5000, first=5001), 5001),
        (known(committed=500, settled=499), 500),
        (known(committed=500, settled=998), 500),  # it died between the store's commit and the group's
        (known(committed=0, settled=9_999), 0),  # an operator had it rewound
        (known(committed=10_000, settled=9_999), 10_000),
        (known(committed=0, settled=None), 0),
        (known(committed=70, settled=None, first=70), 70),
        (known(committed=70, settled=5_000, first=100), 100),  # what is gone was settled long ago
        (known(committed=0, settled=None, first=0, end=0), 0),
    ],
)
def test_it_begins_where_the_group_stopped_or_at_the_first_record(seen: PartitionState, offset: int) -> None:
    assert start_offset.start(seen) == StartOffset(offset=offset)


@pytest.mark.parametrize(
    ("seen", "offset"),
    [
        (known(committed=9_000, settled=4_999), 5_000 - MARGIN),
        (known(committed=9_000, settled=4_999, first=4_500), 4_500),
        (known(committed=9_000, settled=4_999, first=5_000), 5_000),
        (known(committed=9_000, settled=12), 0),
        (known(committed=9_000, settled=None, first=70), 70),  # an empty store
    ],
)
def test_a_store_that_is_older_than_the_group_has_the_log_read_again_with_a_margin(
    seen: PartitionState, offset: int
) -> None:
    assert start_offset.start(seen) == StartOffset(offset=offset, rewound_from=9_000)


def test_newer_records_that_are_settled_hide_no_gap_below_the_committed_offset() -> None:
    lost = structs.replace(known(committed=9_000, settled=9_499), gap_from=5_000)
    assert start_offset.start(lost) == StartOffset(offset=5_000 - MARGIN, rewound_from=9_000)
    assert start_offset.start(structs.replace(lost, first=5_000)) == StartOffset(offset=5_000, rewound_from=9_000)
    with pytest.raises(InfrastructureDamaged, match="the records before 5001 are gone"):
        start_offset.start(structs.replace(lost, first=5_001))
    assert start_offset.start(structs.replace(lost, first=5_001), accept_loss=True).offset == 5_001
    with pytest.raises(InfrastructureDamaged, match="the records before 9000 are gone"):
        start_offset.start(structs.replace(lost, first=9_000))


def test_a_store_that_began_above_the_logs_first_record_lacks_nothing_below() -> None:
    began = known(committed=70, settled=9_499, first=70)
    assert start_offset.start(structs.replace(began, gap_from=0)) == StartOffset(offset=70)
    emptied = structs.replace(began, committed=9_000, gap_from=0)
    assert start_offset.start(emptied) == StartOffset(offset=70, rewound_from=9_000)


@pytest.mark.parametrize(
    "seen",
    [
        known(committed=None, settled=5_000, end=5_000),
        known(committed=5_001, settled=5_000, end=5_000),
        known(committed=None, settled=0, end=0),
    ],
)
def test_a_log_that_ends_before_what_is_settled_is_another_log(seen: PartitionState) -> None:
    with pytest.raises(InfrastructureDamaged, match="made anew, or lost records"):
        start_offset.start(seen)
    with pytest.raises(InfrastructureDamaged, match="made anew, or lost records"):
        start_offset.start(seen, accept_loss=True)


def test_a_log_that_ends_before_what_is_committed_has_lost_its_end() -> None:
    with pytest.raises(InfrastructureDamaged, match="lost its last"):
        start_offset.start(known(committed=600, settled=499, end=500))


@pytest.mark.parametrize(
    "seen",
    [
        known(committed=500, settled=499, first=501),
        known(committed=500, settled=None, first=501),
        known(committed=None, settled=499, first=501),
        known(committed=9_000, settled=4_999, first=5_001),
        known(committed=5_001, settled=499, first=5_001),  # also where a tool has moved the group behind the gap
        known(committed=4_500, settled=4_999, first=4_501),  # within the margin one may not be settled
    ],
)
def test_records_that_are_gone_without_a_disposition_are_never_jumped_over_unless_the_loss_is_accepted(
    seen: PartitionState,
) -> None:
    with pytest.raises(InfrastructureDamaged, match=f"before {seen.first} are gone"):
        start_offset.start(seen)
    assert start_offset.start(seen, accept_loss=True).offset == seen.first
