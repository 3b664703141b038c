"""What each attempt says of its notification: it is there, it is not, or nobody knows.

The judge finds each planted defect, by its name, and nothing where nothing is wrong.
"""

import msgspec
import pytest
from msgspec import structs

from deploy.load import judge
from deploy.load.generator import Outcome
from deploy.load.judge import ABSENT, Page, SeenEvent, SentOrder, Sightings, Wrong
from deploy.sandbox.notifications import MessageKind
from tests.unit.deploy.load.telling import NAMED, attempt, entry, event, order, page, told


def counts(outcome: Outcome, status: int) -> tuple[int, int, int]:
    notification = order((told("n1"), outcome, status)).notifications["n1"]
    return notification.acknowledged, notification.uncertain, notification.turned_away


def test_success_is_certain_a_4xx_too_and_all_else_is_not() -> None:
    assert counts("ok", 200) == (1, 0, 0)
    assert counts("refused", 401) == (0, 0, 1)
    assert counts("refused", 503) == (0, 1, 0)
    assert counts("refused", 302) == (0, 1, 0)
    assert counts("silent", 0) == (0, 1, 0)
    assert counts("unsent", 0) == (0, 0, 0)


def test_attempts_at_copies_and_repetitions_count_for_one_notification() -> None:
    one, other = told("n1"), told("n1")
    orders = judge.orders([one, other], [attempt(0, "silent"), attempt(1), attempt(0, number=2)])
    notification = orders[NAMED].notifications["n1"]
    assert (notification.acknowledged, notification.uncertain) == (2, 1)


def test_forgeries_are_kept_apart_from_what_is_genuine() -> None:
    made = order((told("n1"), "ok", 200), (told("n9", forged=True), "refused", 401))
    assert (set(made.notifications), set(made.forged)) == ({"n1"}, {"n9"})


def test_an_order_of_which_nothing_was_called_has_nothing_to_be_looked_at() -> None:
    assert not SentOrder(account="a", order="o").was_called
    assert not order((told("n1"), "unsent", 0)).was_called
    assert order((told("n1"), "refused", 401)).was_called


WAIT, PAID = told("n1", MessageKind.WAITING), told("n2")
FORGED = told("n9", forged=True)
BOTH = order((WAIT, "ok", 200), (PAID, "ok", 200))
GOOD = page(entry("n1", "applied", version=1), entry("n2", "applied", version=2), of=(WAIT, PAID))


def found(told_of: SentOrder, shown: Page) -> set[Wrong]:
    return {finding.what for finding in judge.of_page(told_of, shown)}


def with_entries(shown: Page, *entries: judge.Entry) -> Page:
    return structs.replace(shown, timeline=entries)


def test_an_order_that_is_as_it_has_to_be_has_no_finding() -> None:
    assert judge.of_page(BOTH, GOOD) == []


def test_late_news_may_be_stale_and_a_second_telling_a_duplicate() -> None:
    overtaken = page(entry("n2", "applied", version=1), entry("n1", "stale"), entry("n2", "duplicate"), of=(WAIT, PAID))
    assert judge.of_page(BOTH, overtaken) == []


def test_more_copies_than_were_answered_are_no_finding_if_all_but_one_are_duplicates() -> None:
    copies = [entry("n2", "duplicate", position=str(number)) for number in range(4)]
    assert judge.of_page(BOTH, with_entries(GOOD, *GOOD.timeline, *copies)) == []


def test_the_same_record_shown_twice_is_one_record() -> None:
    assert judge.of_page(BOTH, with_entries(GOOD, *GOOD.timeline, *GOOD.timeline)) == []


def test_an_acknowledged_notification_that_is_not_there_is_lost() -> None:
    only_paid = page(entry("n2", "applied", version=1), of=(PAID,))
    assert found(BOTH, only_paid) == {Wrong.LOST}
    assert found(BOTH, ABSENT) == {Wrong.LOST}


def test_an_acknowledged_copy_that_is_not_there_is_lost_too() -> None:
    attempts = [attempt(0), attempt(0, number=2)]
    (twice,) = judge.orders([PAID], attempts).values()
    assert found(twice, page(entry("n2", "applied", version=1), of=(PAID,))) == {Wrong.LOST}


@pytest.mark.parametrize(("outcome", "status"), [("silent", 0), ("refused", 503), ("refused", 502), ("refused", 302)])
def test_of_an_uncertain_one_either_is_right(outcome: Outcome, status: int) -> None:
    uncertain = order((WAIT, outcome, status), (PAID, "ok", 200))
    assert judge.of_page(uncertain, GOOD) == []
    assert judge.of_page(uncertain, page(entry("n2", "applied", version=1), of=(PAID,))) == []


def test_one_that_was_turned_away_and_is_there_is_a_stranger() -> None:
    assert found(order((WAIT, "refused", 401), (PAID, "ok", 200)), GOOD) == {Wrong.STRANGER}


def test_one_that_was_never_called_and_is_there_is_a_stranger() -> None:
    assert found(order((WAIT, "unsent", 0), (PAID, "ok", 200)), GOOD) == {Wrong.STRANGER}


def test_a_forged_one_that_is_there_is_a_stranger() -> None:
    forged = order((WAIT, "ok", 200), (PAID, "ok", 200), (FORGED, "refused", 401))
    assert judge.of_page(forged, GOOD) == []
    assert Wrong.STRANGER in found(forged, with_entries(GOOD, *GOOD.timeline, entry("n9", "stale")))


def test_what_nobody_sent_is_a_stranger() -> None:
    assert found(BOTH, with_entries(GOOD, *GOOD.timeline, entry("n7", "stale"))) == {Wrong.STRANGER}


def test_a_notification_that_took_effect_twice_is_a_double() -> None:
    twice = page(
        entry("n1", "applied", version=1), entry("n2", "applied", version=2), entry("n2", "applied", version=3),
        of=(WAIT, PAID),
    )  # fmt: skip
    assert found(BOTH, twice) == {Wrong.DOUBLE}


def test_a_version_that_was_given_twice_is_a_double() -> None:
    same = page(entry("n1", "applied", version=1), entry("n2", "applied", version=1), of=(WAIT, PAID))
    assert found(BOTH, same) == {Wrong.DOUBLE}


def test_a_gap_in_the_versions_is_wrong() -> None:
    gap = page(entry("n1", "applied", version=1), entry("n2", "applied", version=3), of=(WAIT, PAID))
    assert found(BOTH, gap) == {Wrong.WRONG}
    assert found(BOTH, structs.replace(GOOD, version=3)) == {Wrong.WRONG}


@pytest.mark.parametrize("disposition", ["parked", "quarantined", "dead"])
def test_a_notification_that_waits_or_was_held_is_wrong(disposition: str) -> None:
    held = page(entry("n1", "applied", version=1), entry("n2", disposition), of=(WAIT, PAID))
    assert found(BOTH, held) == {Wrong.WRONG}


def test_duplicates_without_a_first_are_wrong() -> None:
    orphan = page(entry("n1", "applied", version=1), entry("n2", "duplicate"), of=(WAIT, PAID))
    assert found(BOTH, orphan) == {Wrong.WRONG}


@pytest.mark.parametrize(
    "tampered",
    [
        {"status": "WAITING"},
        {"closed_because": "expired"},
        {"trade": "T2"},
        {"amount_minor": 1},
        {"currency": "USD"},
        {"refunded_minor": 1},
        {"flags": ("amount_mismatch",)},
    ],
    ids=lambda tampered: next(iter(tampered)),
)
def test_a_state_other_than_the_notifications_make_is_wrong(tampered: dict[str, object]) -> None:
    (finding,) = judge.of_page(BOTH, structs.replace(GOOD, **tampered))
    assert finding.what is Wrong.WRONG
    assert next(iter(tampered)) in finding.detail


def test_answers_alone_give_away_what_was_believed_refused_or_never_acknowledged() -> None:
    orders = [
        order((FORGED, "ok", 200)),
        order((PAID, "refused", 401)),
        order((WAIT, "refused", 503)),
    ]
    assert [one.what for one in judge.of_answers(orders, repeated=False)] == [Wrong.BELIEVED, Wrong.REFUSED]
    assert [one.what for one in judge.of_answers(orders, repeated=True)] == [
        Wrong.BELIEVED,
        Wrong.REFUSED,
        Wrong.UNACKNOWLEDGED,
    ]
    assert [one.what for one in judge.of_answers([order((PAID, "refused", 302))], repeated=False)] == [Wrong.REFUSED]
    assert list(judge.of_answers([BOTH, order((FORGED, "refused", 401))], repeated=True)) == []


def sighted(*events: SeenEvent) -> Sightings:
    sightings = Sightings()
    for each in events:
        sightings.see(each, msgspec.json.encode(each))
    return sightings


PAGES = {NAMED: (2, GOOD.outcome)}
FIRST = structs.replace(event(1, GOOD), status="WAITING")
LAST = event(2, GOOD)


def of_events(sightings: Sightings) -> list[Wrong]:
    return [finding.what for finding in sightings.verdict(PAGES)]


def test_events_of_every_version_in_order_are_right_and_copies_of_them_too() -> None:
    assert of_events(sighted(FIRST, LAST)) == []
    again = sighted(FIRST, FIRST, LAST, FIRST, LAST)
    assert of_events(again) == []
    assert (again.count, again.copies) == (5, 3)


@pytest.mark.parametrize("seen", [(), (FIRST,), (LAST,)], ids=["none", "first", "last"])
def test_a_version_that_no_event_announced_is_missing(seen: tuple[SeenEvent, ...]) -> None:
    sightings = sighted(*seen)
    assert set(of_events(sightings)) == {Wrong.MISSING_EVENT}
    assert len(of_events(sightings)) == 2 - len(seen)
    assert sightings.lacks({NAMED: 2})


def test_copies_that_differ_are_wrong() -> None:
    assert of_events(sighted(FIRST, LAST, structs.replace(FIRST, amount_minor=1))) == [Wrong.WRONG_EVENT]


def test_a_version_first_seen_after_a_later_one_is_out_of_order() -> None:
    assert of_events(sighted(LAST, FIRST)) == [Wrong.EVENT_ORDER]


def test_an_event_above_the_order_s_version_is_wrong() -> None:
    assert of_events(sighted(FIRST, LAST, event(3, GOOD))) == [Wrong.WRONG_EVENT]


def test_a_last_event_that_says_other_than_the_page_is_wrong() -> None:
    assert of_events(sighted(FIRST, structs.replace(LAST, refunded_minor=5))) == [Wrong.WRONG_EVENT]


def test_an_event_of_an_order_that_was_never_told_of_is_a_stranger() -> None:
    assert of_events(sighted(FIRST, LAST, structs.replace(FIRST, order="L1-0-9"))) == [Wrong.STRANGER]
