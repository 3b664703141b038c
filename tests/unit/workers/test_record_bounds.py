"""A record of any size is either processed or held within bounds."""

import pytest

from schemas.record_format import BadRecord, Record
from workers import record_bounds
from workers.record_bounds import HEADER_BYTES_MAX, HEADERS_MAX, RECORD_BYTES_MAX


def record(value: int = 1, headers: int = 1, header: int = 1) -> Record:
    return Record(b"k", b"v" * value, tuple((f"h{number}", b"x" * header) for number in range(headers)))


def test_record_at_the_limits_is_accepted_and_kept_as_it_is() -> None:
    largest = record(0, headers=HEADERS_MAX, header=HEADER_BYTES_MAX)
    record_bounds.check(largest)
    assert record_bounds.trimmed(largest) is largest
    record_bounds.check(record(RECORD_BYTES_MAX - 1))


@pytest.mark.parametrize("large", [record(headers=HEADERS_MAX + 1), record(RECORD_BYTES_MAX)])
def test_record_beyond_a_limit_is_bad(large: Record) -> None:
    with pytest.raises(BadRecord):
        record_bounds.check(large)


def test_held_record_keeps_its_value_and_loses_headers_beyond_the_limits() -> None:
    trimmed = record_bounds.trimmed(record(9, headers=HEADERS_MAX + 1, header=HEADER_BYTES_MAX + 1))
    assert trimmed.value == b"v" * 9
    assert [len(value) for _, value in trimmed.headers] == [HEADER_BYTES_MAX] * HEADERS_MAX
