"""Both limits hold, and a refused item is not counted."""

import pytest

from ingest.quota import Quota


class TooMuch(Exception):
    pass


@pytest.fixture
def quota() -> Quota:
    return Quota(count_max=3, bytes_max=250, exceeded=TooMuch)


def test_item_beyond_the_count_limit_is_refused_until_another_is_released(quota: Quota) -> None:
    for size in (1, 1, 1):
        quota.take(size)
    with pytest.raises(TooMuch):
        quota.take(1)
    quota.release(1)
    quota.take(1)
    assert (quota.count, quota.bytes) == (3, 3)


def test_item_beyond_the_byte_limit_is_refused_and_not_counted(quota: Quota) -> None:
    quota.take(200)
    with pytest.raises(TooMuch):
        quota.take(51)
    assert (quota.count, quota.bytes) == (1, 200)
    quota.take(50)
    assert (quota.count, quota.bytes) == (2, 250)


def test_each_refusal_raises_an_error_of_its_own(quota: Quota) -> None:
    errors = set()
    for _ in range(2):
        with pytest.raises(TooMuch) as refusal:
            quota.take(251)
        errors.add(refusal.value)
    assert len(errors) == 2
