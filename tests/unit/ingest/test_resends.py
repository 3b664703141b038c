"""Refused notifications count when they come again by the schedule, in bounded memory, until they are accepted."""

import pytest

from ingest.resends import GIVEN_UP_KEPT_MS, ID_BYTES_MAX, Resends
from schemas.accounts import Account, Family, SignType

SHOP = Account(name="shop", family=Family.OPENAPI, sign_type=SignType.RSA2)
OTHER = Account(name="other", family=Family.OPENAPI, sign_type=SignType.RSA2, retry_profile="global-2m")
START_MS = 1_760_000_000_000
LAST = 1464


def ms(minutes: float) -> int:
    return START_MS + round(minutes * 60_000)


def refused(resends: Resends, *minutes: float, id_: bytes = b"n-1", account: Account = SHOP) -> None:
    for minute in minutes:
        resends.refused(account, id_, ms(minute))


def told(resends: Resends, minute: float) -> dict[str, float]:
    """The minute at which Alipay gives up, by account."""
    return {account: (at - START_MS) / 60_000 for account, at in resends.give_up_ms(ms(minute)).items()}


def test_request_that_came_once_says_nothing() -> None:
    resends = Resends()
    refused(resends, 0)
    assert told(resends, 0) == {}


def test_notification_that_comes_again_by_the_schedule_counts() -> None:
    resends = Resends()
    refused(resends, 0, 4)
    assert told(resends, 4) == {"shop": LAST}
    refused(resends, 14, 24, 84, 204, 564)
    assert told(resends, 900) == {"shop": LAST}


@pytest.mark.parametrize("minutes", [(0, 0, 0), (0, 0.5), (0, 1.5), (0, 7), (0, 30, 37)])
def test_requests_at_other_moments_do_not_count(minutes: tuple[float, ...]) -> None:
    resends = Resends()
    refused(resends, *minutes)
    assert told(resends, minutes[-1]) == {}


def test_each_account_has_the_earliest_of_its_own_profile() -> None:
    resends = Resends()
    refused(resends, 10, 14, id_=b"later")
    refused(resends, 0, 4)
    refused(resends, 0, 2, account=OTHER)
    assert told(resends, 5) == {"shop": LAST, "other": 1462}


def test_notification_counts_until_its_next_delivery_is_overdue() -> None:
    resends = Resends()
    refused(resends, 0, 4)
    assert (told(resends, 15), told(resends, 16)) == ({"shop": LAST}, {})
    refused(resends, 24)  # one delivery went to another receiver
    assert told(resends, 24) == {"shop": LAST}


def test_notification_whose_last_delivery_was_refused_counts_for_a_day_more() -> None:
    resends = Resends()
    refused(resends, 0, 4, 14, 24, 84, 204, 564, LAST)
    kept_minutes = GIVEN_UP_KEPT_MS / 60_000
    assert told(resends, LAST + kept_minutes) == {"shop": LAST}
    assert told(resends, LAST + kept_minutes + 1) == {}


def test_accepted_notification_is_forgotten() -> None:
    resends = Resends()
    resends.accepted("shop", b"n-1")
    refused(resends, 0, 4)
    refused(resends, 0, id_=b"n-2")
    resends.accepted("shop", b"n-1")
    resends.accepted("shop", b"n-2")
    refused(resends, 4, id_=b"n-2")
    assert told(resends, 4) == {}


def test_request_between_two_deliveries_disturbs_nothing() -> None:
    resends = Resends()
    refused(resends, 0, 4, 5, 8, 9.5, 14)
    assert told(resends, 14) == {"shop": LAST}
    refused(resends, 19, 24)
    assert told(resends, 24) == {"shop": LAST}


def test_requests_begin_anew_after_those_that_do_not_fit() -> None:
    resends = Resends()
    refused(resends, 0, 7, 11)
    assert told(resends, 11) == {"shop": pytest.approx(LAST + 7)}
    refused(resends, 3000, 3004)
    assert told(resends, 3004) == {"shop": pytest.approx(LAST + 3000)}


@pytest.mark.parametrize("id_", [b"", b"x" * (ID_BYTES_MAX + 1)])
def test_request_without_a_usable_id_is_not_noted(id_: bytes) -> None:
    resends = Resends()
    refused(resends, 0, 4, id_=id_)
    assert told(resends, 4) == {}


def test_flood_of_forgeries_takes_no_more_memory_and_hides_only_single_requests() -> None:
    resends = Resends(once_max=100, again_max=10)
    refused(resends, 0, 4, 14)
    refused(resends, 14, id_=b"n-2")
    for number in range(500):
        refused(resends, 15, id_=b"f-%d" % number)
    assert (len(resends._once), len(resends._again)) == (100, 1)
    refused(resends, 18, id_=b"n-2")
    refused(resends, 24)
    assert told(resends, 24) == {"shop": LAST}
    assert len(resends._again) == 1


def test_of_many_that_come_again_those_that_came_least_often_make_room() -> None:
    resends = Resends(again_max=10)
    refused(resends, 0, 4, 14)
    for number in range(100):
        refused(resends, 10, 14, id_=b"f-%d" % number)
        assert len(resends._again) <= 10
    assert told(resends, 14) == {"shop": LAST}


def test_overdue_ones_make_room_first() -> None:
    resends = Resends(again_max=1)
    refused(resends, 0, 4, 14)
    refused(resends, 2000, 2004, id_=b"n-2")
    assert told(resends, 2004) == {"shop": LAST + 2000}
