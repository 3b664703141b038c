"""`topics plan` and `apply`: output and exit codes for each outcome, without a cluster."""

from collections.abc import Sequence

import pytest

from deploy.cli import topics
from deploy.cluster.settings import ClusterSettings
from deploy.cluster.topic_check import NotSeen
from deploy.cluster.topic_diff import AddPartitions, ApplyOutcome, ApplyReport, ByHand, SetConfig
from tests.unit.deploy.cli.commands import parsed, run

PARTITIONS = AddPartitions(name="payments.order.v1", now=3, wanted=12)
RETENTION = SetConfig(name="payments.order.v1", setting="retention.ms", now="1", wanted="2")
REPLICAS = ByHand(name="payments.order.v1", setting="replicas", now="1", wanted="3", how="reassign the partitions")


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[ApplyReport]:
    """The reports that the next command gets instead of a cluster's."""
    prepared: list[ApplyReport] = []

    async def compare(settings: ClusterSettings, *, yes: bool) -> Sequence[ApplyReport]:
        return prepared

    monkeypatch.setattr(topics, "_compare", compare)
    return prepared


@pytest.mark.usefixtures("reports")
def test_no_difference_exits_with_0() -> None:
    for command in (("plan",), ("apply", "--yes")):
        done = run({}, "topics", *command)
        assert (done.exit_code, done.stdout) == (0, "All topics are as they should be.\n")


def test_plan_exits_with_3_and_shows_both_values(reports: list[ApplyReport]) -> None:
    reports.append(ApplyReport(difference=PARTITIONS, outcome=ApplyOutcome.WOULD_CHANGE))
    planned = run({}, "topics", "plan", "--output", "json")
    assert planned.exit_code == 3
    assert parsed(planned) == {
        "ok": False,
        "differences": [
            {
                "topic": "payments.order.v1", "what": "partitions", "is": "3", "should_be": "12",
                "outcome": "would change", "detail": "",
            }
        ],
    }  # fmt: skip


def test_apply_without_yes_is_a_dry_run(reports: list[ApplyReport]) -> None:
    reports.append(ApplyReport(difference=RETENTION, outcome=ApplyOutcome.WOULD_CHANGE))
    dry = run({}, "topics", "apply")
    assert (dry.exit_code, "Nothing was changed; --yes applies the changes" in dry.stderr) == (3, True)


@pytest.mark.parametrize(
    ("outcome", "code"), [(ApplyOutcome.DONE, 0), (ApplyOutcome.BY_HAND, 3), (ApplyOutcome.FAILED, 1)]
)
def test_apply_exits_by_the_worst_outcome(reports: list[ApplyReport], outcome: ApplyOutcome, code: int) -> None:
    reports.append(ApplyReport(difference=RETENTION, outcome=ApplyOutcome.DONE))
    reports.append(ApplyReport(difference=REPLICAS, outcome=outcome, detail="reassign the partitions"))
    done = run({}, "topics", "apply", "--yes")
    assert (done.exit_code, "reassign the partitions" in done.stdout) == (code, True)


def test_unreachable_cluster_exits_with_1_and_names_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(settings: ClusterSettings, *, yes: bool) -> Sequence[ApplyReport]:
        raise NotSeen("no broker answers")

    monkeypatch.setattr(topics, "_compare", fail)
    refused = run({}, "topics", "plan", "--kafka", "k1:9092")
    assert (refused.exit_code, "Kafka at k1:9092: no broker answers" in refused.stderr) == (1, True)


def test_wrong_prefix_exits_with_2() -> None:
    refused = run({}, "topics", "plan", "--topic-prefix", "A_b")
    assert (refused.exit_code, "ALIPAY_NOTIFY_TOPIC_PREFIX" in refused.stderr) == (2, True)
