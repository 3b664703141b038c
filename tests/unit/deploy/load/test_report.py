"""The result of a run: a JSON object with stable fields, lines for the terminal, and warnings."""

import pytest
from msgspec import structs

from deploy.load import figures, report
from deploy.load.corpus import Mix
from deploy.load.figures import Figures
from deploy.load.generator import LoadLimits, SendAttempt, Target
from deploy.load.judge import Discrepancy, DiscrepancyKind
from deploy.load.origin import Origin
from deploy.load.run import Checks, LoadPlan, Result
from deploy.load.verification import Verified

PLAN = LoadPlan(
    to="http://h", target=Target(host="h", port=80), host="h", origin=Origin(), mix=Mix(), rate=100.0, duration_s=1.0,
    processes=1, limits=LoadLimits(), retry=False, seed=1, checks=Checks(),
)  # fmt: skip
SENT = {"new": 3, "duplicates": 1, "forged": 1, "orders": 2}
VERIFIED = Verified(
    orders=2,
    records=4,
    records_beyond_answers=0,
    events=4,
    copies_of_events=0,
    seconds=1.5,
    findings=(),
)
LOST = Discrepancy(kind=DiscrepancyKind.LOST, account="a", order="o", notification_id="n", detail="not there")


def measured(*outcomes: SendAttempt) -> Figures:
    return figures.summed(outcomes)


GOOD = measured(SendAttempt(0, 1, 0.0, 0.0, 0.1, "ok", 200), SendAttempt(1, 1, 0.5, 0.5, 0.6, "refused", 503))


def result(*found: Discrepancy, measured: Figures = GOOD, verified: Verified | None = VERIFIED) -> Result:
    return Result(plan=PLAN, sent=SENT, figures=measured, verified=verified, findings=found)


def test_run_without_findings_has_passed() -> None:
    assert report.passed(result())
    assert not report.passed(result(LOST))


def test_run_without_any_acknowledgement_has_not_passed() -> None:
    assert not report.passed(result(measured=measured()))


def test_json_has_the_same_fields_with_and_without_verification_and_findings() -> None:
    whole, empty = report.as_json(result(LOST)), report.as_json(result(measured=measured(), verified=None))
    assert whole.keys() == empty.keys()
    assert empty["verification"] is None
    assert whole["told"] == SENT
    assert whole["refused_by_status"] == {"503": 1}


def test_json_counts_every_kind_of_finding_and_shows_the_first() -> None:
    shown = report.as_json(result(*[LOST] * (report.SHOWN_MAX + 1)))
    assert shown["findings"] == {kind.value: 0 for kind in DiscrepancyKind} | {"lost": report.SHOWN_MAX + 1}
    first = shown["first_findings"]
    assert isinstance(first, list)
    assert len(first) == report.SHOWN_MAX
    assert first[0] == {"what": "lost", "account": "a", "order": "o", "notification_id": "n", "detail": "not there"}


def test_lines_name_requests_rate_latency_answers_and_verification() -> None:
    lines = dict(report.facts(result()))
    assert lines["requests"] == "3 new, 1 duplicates, 1 forged; 2 orders"
    assert lines["answers"] == "1 success, 1 503"
    assert lines["verified"] == "2 orders, 4 records, 4 events in 1.5 s"
    assert set(lines) == {"requests", "rate", "latency", "answers", "verified"}
    assert "verified" not in dict(report.facts(result(verified=None)))


@pytest.mark.parametrize(
    ("changed", "warning"),
    [({"behind_ms": report.BEHIND_MS_MAX + 1}, "--processes"), ({"unsent": 3}, "3 requests found no free connection")],
)
def test_warnings_name_a_late_sender_and_unsent_requests(changed: dict[str, float], warning: str) -> None:
    (shown,) = report.warnings(result(measured=structs.replace(GOOD, **changed)))
    assert warning in shown


def test_warning_names_the_missing_verification() -> None:
    assert report.warnings(result()) == []
    (shown,) = report.warnings(result(verified=None))
    assert "--admin" in shown
