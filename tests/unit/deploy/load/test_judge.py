"""The judge finds each planted defect by its kind, and nothing in a correct outcome."""

import msgspec
import pytest
from msgspec import structs

from deploy.load import judge
from deploy.load.generator import Outcome
from deploy.load.judge import ABSENT, DiscrepancyKind, Page, SeenEvent, SeenEvents, SentOrder
from deploy.sandbox.notifications import MessageKind
from tests.unit.deploy.load.samples import ORDER, attempt, entry, event, notification, order, page


def counts(outcome: Outcome, status: int) -> tuple[int, int, int]:
    answered = order((notification("n1"), outcome, status)).notifications["n1"]
    return answered.acknowledged, answered.uncertain, answered.turned_away


def test_only_success_and_4xx_are_certain() -> None:
    assert counts("ok", 200) == (1, 0, 0)
    assert counts("refused", 401) == (0, 0, 1)
    assert counts("refused", 503) == (0, 1, 0)
    assert counts("refused", 302) == (0, 1, 0)
    assert counts("silent", 0) == (0, 1, 0)
    assert counts("unsent", 0) == (0, 0, 0)


def test_attempts_at_duplicates_and_retries_count_for_one_notification() -> None:
    one, other = notification("n1"), notification("n1")
    orders = judge.orders([one, other], [attempt(0, "silent"), attempt(1), attempt(0, number=2)])
    answered = orders[ORDER].notifications["n1"]
    assert (answered.acknowledged, answered.uncertain) == (2, 1)


def test_forgeries_are_kept_apart_from_genuine_notifications() -> None:
    made = order((notification("n1"), "ok", 200), (notification("n9", forged=True), "refused", 401))
    assert (set(made.notifications), set(made.forged)) == ({"n1"}, {"n9"})


def test_order_without_any_sent_request_is_not_verified() -> None:
    assert not SentOrder(account="a", order="o").was_called
    assert not order((notification("n1"), "unsent", 0)).was_called
    assert order((notification("n1"), "refused", 401)).was_called


WAIT, PAID = notification("n1", MessageKind.WAITING), notification("n2")
FORGED = notification("n9", forged=True)
BOTH = order((WAIT, "ok", 200), (PAID, "ok", 200))
GOOD = page(entry("n1", "applied", version=1), entry("n2", "applied", version=2), of=(WAIT, PAID))


def found(sent: SentOrder, shown: Page) -> set[DiscrepancyKind]:
    return {finding.kind for finding in judge.check_page(sent, shown)}


def with_entries(shown: Page, *entries: judge.Entry) -> Page:
    return structs.replace(shown, timeline=entries)


def test_correct_order_has_no_finding() -> None:
    assert judge.check_page(BOTH, GOOD) == []


def test_late_event_may_be_stale_and_a_second_copy_a_duplicate() -> None:
    overtaken = page(entry("n2", "applied", version=1), entry("n1", "stale"), entry("n2", "duplicate"), of=(WAIT, PAID))
    assert judge.check_page(BOTH, overtaken) == []


def test_more_copies_than_answers_are_no_finding_if_all_are_duplicates() -> None:
    copies = [entry("n2", "duplicate", position=str(number)) for number in range(4)]
    assert judge.check_page(BOTH, with_entries(GOOD, *GOOD.timeline, *copies)) == []


def test_record_shown_twice_counts_once() -> None:
    assert judge.check_page(BOTH, with_entries(GOOD, *GOOD.timeline, *GOOD.timeline)) == []


def test_acknowledged_notification_missing_from_the_page_is_lost() -> None:
    only_paid = page(entry("n2", "applied", version=1), of=(PAID,))
    assert found(BOTH, only_paid) == {DiscrepancyKind.LOST}
    assert found(BOTH, ABSENT) == {DiscrepancyKind.LOST}


def test_acknowledged_copy_missing_from_the_page_is_lost_too() -> None:
    attempts = [attempt(0), attempt(0, number=2)]
    (twice,) = judge.orders([PAID], attempts).values()
    assert found(twice, page(entry("n2", "applied", version=1), of=(PAID,))) == {DiscrepancyKind.LOST}


def test_copy_of_a_capture_missing_from_the_page_is_lost_once_its_payment_is_there() -> None:
    capture = notification("n3", MessageKind.CAPTURE)
    (sent,) = judge.orders([PAID, capture], [attempt(0), attempt(1), attempt(1, number=2)]).values()
    once = page(entry("n2", "applied", version=1), entry("n3", "applied", reason="noted"), of=(PAID, capture))
    assert found(sent, once) == {DiscrepancyKind.LOST}
    assert found(sent, with_entries(once, *once.timeline, entry("n3", "duplicate"))) == set()


@pytest.mark.parametrize(("outcome", "status"), [("silent", 0), ("refused", 503), ("refused", 502), ("refused", 302)])
def test_uncertain_notification_may_be_there_or_not(outcome: Outcome, status: int) -> None:
    uncertain = order((WAIT, outcome, status), (PAID, "ok", 200))
    assert judge.check_page(uncertain, GOOD) == []
    assert judge.check_page(uncertain, page(entry("n2", "applied", version=1), of=(PAID,))) == []


def test_turned_away_notification_on_the_page_is_a_stranger() -> None:
    assert found(order((WAIT, "refused", 401), (PAID, "ok", 200)), GOOD) == {DiscrepancyKind.STRANGER}


def test_unsent_notification_on_the_page_is_a_stranger() -> None:
    assert found(order((WAIT, "unsent", 0), (PAID, "ok", 200)), GOOD) == {DiscrepancyKind.STRANGER}


def test_forgery_on_the_page_is_a_stranger() -> None:
    forged = order((WAIT, "ok", 200), (PAID, "ok", 200), (FORGED, "refused", 401))
    assert judge.check_page(forged, GOOD) == []
    assert DiscrepancyKind.STRANGER in found(forged, with_entries(GOOD, *GOOD.timeline, entry("n9", "stale")))


def test_notification_never_sent_is_a_stranger() -> None:
    assert found(BOTH, with_entries(GOOD, *GOOD.timeline, entry("n7", "stale"))) == {DiscrepancyKind.STRANGER}


def test_notification_applied_twice_is_a_double() -> None:
    twice = page(
        entry("n1", "applied", version=1), entry("n2", "applied", version=2), entry("n2", "applied", version=3),
        of=(WAIT, PAID),
    )  # fmt: skip
    assert found(BOTH, twice) == {DiscrepancyKind.DOUBLE}


def test_version_given_twice_is_a_double() -> None:
    same = page(entry("n1", "applied", version=1), entry("n2", "applied", version=1), of=(WAIT, PAID))
    assert found(BOTH, same) == {DiscrepancyKind.DOUBLE}


def test_gap_in_the_versions_is_wrong() -> None:
    gap = page(entry("n1", "applied", version=1), entry("n2", "applied", version=3), of=(WAIT, PAID))
    assert found(BOTH, gap) == {DiscrepancyKind.WRONG}
    assert found(BOTH, structs.replace(GOOD, version=3)) == {DiscrepancyKind.WRONG}


@pytest.mark.parametrize("disposition", ["parked", "quarantined", "dead"])
def test_parked_or_held_notification_is_wrong(disposition: str) -> None:
    held = page(entry("n1", "applied", version=1), entry("n2", disposition), of=(WAIT, PAID))
    assert found(BOTH, held) == {DiscrepancyKind.WRONG}


def test_duplicates_without_a_first_record_are_wrong() -> None:
    orphan = page(entry("n1", "applied", version=1), entry("n2", "duplicate"), of=(WAIT, PAID))
    assert found(BOTH, orphan) == {DiscrepancyKind.WRONG}


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
def test_state_that_differs_from_the_notifications_is_wrong(tampered: dict[str, object]) -> None:
    (finding,) = judge.check_page(BOTH, structs.replace(GOOD, **tampered))
    assert finding.kind is DiscrepancyKind.WRONG
    assert next(iter(tampered)) in finding.detail


def test_answers_alone_show_believed_refused_and_unacknowledged() -> None:
    orders = [
        order((FORGED, "ok", 200)),
        order((PAID, "refused", 401)),
        order((WAIT, "refused", 503)),
    ]
    assert [one.kind for one in judge.check_answers(orders, repeated=False)] == [
        DiscrepancyKind.BELIEVED,
        DiscrepancyKind.REFUSED,
    ]
    assert [one.kind for one in judge.check_answers(orders, repeated=True)] == [
        DiscrepancyKind.BELIEVED,
        DiscrepancyKind.REFUSED,
        DiscrepancyKind.UNACKNOWLEDGED,
    ]
    assert [one.kind for one in judge.check_answers([order((PAID, "refused", 302))], repeated=False)] == [
        DiscrepancyKind.REFUSED
    ]
    assert list(judge.check_answers([BOTH, order((FORGED, "refused", 401))], repeated=True)) == []


def seen(*arrived: SeenEvent) -> SeenEvents:
    events = SeenEvents()
    for each in arrived:
        events.add(each, msgspec.json.encode(each))
    return events


PAGES = {ORDER: (2, GOOD.outcome)}
FIRST = structs.replace(event(1, GOOD), status="WAITING")
LAST = event(2, GOOD)


def of_events(events: SeenEvents) -> list[DiscrepancyKind]:
    return [finding.kind for finding in events.findings(PAGES)]


def test_events_of_every_version_in_order_and_their_copies_are_right() -> None:
    assert of_events(seen(FIRST, LAST)) == []
    again = seen(FIRST, FIRST, LAST, FIRST, LAST)
    assert of_events(again) == []
    assert (again.count, again.copies) == (5, 3)


@pytest.mark.parametrize("arrived", [(), (FIRST,), (LAST,)], ids=["none", "first", "last"])
def test_version_without_an_event_is_missing(arrived: tuple[SeenEvent, ...]) -> None:
    events = seen(*arrived)
    assert set(of_events(events)) == {DiscrepancyKind.MISSING_EVENT}
    assert len(of_events(events)) == 2 - len(arrived)
    assert events.lacks({ORDER: 2})


def test_differing_copies_of_an_event_are_wrong() -> None:
    assert of_events(seen(FIRST, LAST, structs.replace(FIRST, amount_minor=1))) == [DiscrepancyKind.WRONG_EVENT]


def test_version_first_seen_after_a_later_one_is_out_of_order() -> None:
    assert of_events(seen(LAST, FIRST)) == [DiscrepancyKind.EVENT_ORDER]


def test_event_above_the_orders_version_is_wrong() -> None:
    assert of_events(seen(FIRST, LAST, event(3, GOOD))) == [DiscrepancyKind.WRONG_EVENT]


def test_last_event_that_differs_from_the_page_is_wrong() -> None:
    assert of_events(seen(FIRST, structs.replace(LAST, refunded_minor=5))) == [DiscrepancyKind.WRONG_EVENT]


def test_event_of_an_order_never_sent_is_a_stranger() -> None:
    assert of_events(seen(FIRST, LAST, structs.replace(FIRST, order="L1-0-9"))) == [DiscrepancyKind.STRANGER]
