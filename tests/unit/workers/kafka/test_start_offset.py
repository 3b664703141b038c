"""The start offset if group, store and log agree, if the store is behind, and if records are deleted."""

import pytest
from msgspec import structs

from workers.errors import InfrastructureDamaged
from workers.kafka import start_offset
from workers.kafka.start_offset import MARGIN, PartitionState, StartOffset


def state(*, committed: int | None, settled: int | None, first: int = 0, end: int = 10_000) -> PartitionState:
    return PartitionState(partition=3, committed=committed, settled=settled, first=first, end=end)


@pytest.mark.parametrize(
    ("found", "offset"),
    [
        (state(committed=None, settled=None), 0),
        (state(committed=None, settled=None, first=70), 70),
        (state(committed=None, settled=5000), 0),  # the group was deleted: from the first record again, as duplicates
        (state(committed=None, settled=5000, first=5001), 5001),
        (state(committed=500, settled=499), 500),
        (state(committed=500, settled=998), 500),  # the worker died between the transaction and the offset commit
        (state(committed=0, settled=9_999), 0),  # an operator has rewound the group
        (state(committed=10_000, settled=9_999), 10_000),
        (state(committed=0, settled=None), 0),
        (state(committed=70, settled=None, first=70), 70),
        (state(committed=70, settled=5_000, first=100), 100),  # the deleted records were processed long ago
        (state(committed=0, settled=None, first=0, end=0), 0),
    ],
)
def test_starts_at_the_committed_offset_or_at_the_first_record(found: PartitionState, offset: int) -> None:
    assert start_offset.start(found) == StartOffset(offset=offset)


@pytest.mark.parametrize(
    ("found", "offset"),
    [
        (state(committed=9_000, settled=4_999), 5_000 - MARGIN),
        (state(committed=9_000, settled=4_999, first=4_500), 4_500),
        (state(committed=9_000, settled=4_999, first=5_000), 5_000),
        (state(committed=9_000, settled=12), 0),
        (state(committed=9_000, settled=None, first=70), 70),  # an empty store
    ],
)
def test_store_behind_the_group_rewinds_to_its_last_disposition_minus_margin(
    found: PartitionState, offset: int
) -> None:
    assert start_offset.start(found) == StartOffset(offset=offset, rewound_from=9_000)


def test_newer_dispositions_hide_no_gap_below_the_committed_offset() -> None:
    lost = structs.replace(state(committed=9_000, settled=9_499), gap_from=5_000)
    assert start_offset.start(lost) == StartOffset(offset=5_000 - MARGIN, rewound_from=9_000)
    assert start_offset.start(structs.replace(lost, first=5_000)) == StartOffset(offset=5_000, rewound_from=9_000)
    with pytest.raises(InfrastructureDamaged, match="records before 5001 are deleted"):
        start_offset.start(structs.replace(lost, first=5_001))
    assert start_offset.start(structs.replace(lost, first=5_001), accept_loss=True).offset == 5_001
    with pytest.raises(InfrastructureDamaged, match="records before 9000 are deleted"):
        start_offset.start(structs.replace(lost, first=9_000))


def test_store_that_began_above_offset_zero_lacks_nothing_below() -> None:
    began = state(committed=70, settled=9_499, first=70)
    assert start_offset.start(structs.replace(began, gap_from=0)) == StartOffset(offset=70)
    emptied = structs.replace(began, committed=9_000, gap_from=0)
    assert start_offset.start(emptied) == StartOffset(offset=70, rewound_from=9_000)


@pytest.mark.parametrize(
    "found",
    [
        state(committed=None, settled=5_000, end=5_000),
        state(committed=5_001, settled=5_000, end=5_000),
        state(committed=None, settled=0, end=0),
    ],
)
def test_log_that_ends_before_the_last_disposition_is_damage(found: PartitionState) -> None:
    with pytest.raises(InfrastructureDamaged, match="created anew or has lost records"):
        start_offset.start(found)
    with pytest.raises(InfrastructureDamaged, match="created anew or has lost records"):
        start_offset.start(found, accept_loss=True)


def test_log_that_ends_before_the_committed_offset_is_damage() -> None:
    with pytest.raises(InfrastructureDamaged, match="lost its last records"):
        start_offset.start(state(committed=600, settled=499, end=500))


@pytest.mark.parametrize(
    "found",
    [
        state(committed=500, settled=499, first=501),
        state(committed=500, settled=None, first=501),
        state(committed=None, settled=499, first=501),
        state(committed=9_000, settled=4_999, first=5_001),
        state(committed=5_001, settled=499, first=5_001),  # even if a tool has moved the group past the gap
        state(committed=4_500, settled=4_999, first=4_501),  # within the margin a record may lack its disposition
    ],
)
def test_deleted_records_without_disposition_are_skipped_only_with_accept_loss(
    found: PartitionState,
) -> None:
    with pytest.raises(InfrastructureDamaged, match=f"before {found.first} are deleted"):
        start_offset.start(found)
    assert start_offset.start(found, accept_loss=True).offset == found.first
