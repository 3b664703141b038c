"""The steps of a run, with senders that the test has written."""

from collections.abc import Sequence

import pytest
from msgspec import structs

from deploy.load import run, senders
from deploy.load.corpus import Mix, SentNotification
from deploy.load.generator import LoadLimits, Target
from deploy.load.judge import DiscrepancyKind
from deploy.load.origin import Origin
from deploy.load.run import Checks, LoadPlan, Result
from deploy.load.senders import SentLog, Task
from tests.unit.deploy.load.samples import attempt, notification

PLAN = LoadPlan(
    to="http://h", target=Target(host="h", port=80), host="h", origin=Origin(), mix=Mix(), rate=30.0, duration_s=2.0,
    processes=3, limits=LoadLimits(connections=100), retry=True, seed=5, checks=Checks(),
)  # fmt: skip
PAID, FORGED = notification("n1"), notification("n9", forged=True)


def ran(
    monkeypatch: pytest.MonkeyPatch, plan: LoadPlan, *sent: SentNotification, acknowledged: Sequence[int]
) -> tuple[Result, list[Task]]:
    given: list[Task] = []

    def send(tasks: Sequence[Task]) -> SentLog:
        given.extend(tasks)
        attempts = [
            attempt(index) if index in acknowledged else attempt(index, "refused", 401) for index in range(len(sent))
        ]
        return SentLog(sent=sent, attempts=attempts, behind_s=())

    monkeypatch.setattr(senders, "send", send)
    return run.run(plan), given


def test_processes_share_the_requests_the_schedule_and_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tasks = ran(monkeypatch, PLAN, PAID, acknowledged=[0])
    assert sum(task.share.size(task.total) for task in tasks) == PLAN.total == 60
    assert [(task.share.number, task.share.of) for task in tasks] == [(0, 3), (1, 3), (2, 3)]
    assert {task.limits.connections for task in tasks} == {33}
    assert {(task.retry, task.rate) for task in tasks} == {(True, 30.0)}


def test_each_process_has_at_least_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = structs.replace(PLAN, limits=LoadLimits(connections=1))
    _, tasks = ran(monkeypatch, narrow, PAID, acknowledged=[0])
    assert {task.limits.connections for task in tasks} == {1}


def test_result_counts_requests_by_kind_and_orders_without_forgeries(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = structs.replace(PAID, duplicate=True)
    other = structs.replace(FORGED, order="L5-0-0000001F")
    result, _ = ran(monkeypatch, PLAN, PAID, copy, other, acknowledged=[0, 1])
    assert result.sent == {"new": 1, "duplicates": 1, "forged": 1, "orders": 1}
    assert result.findings == ()
    assert result.verified is None


def test_answers_are_judged_without_an_admin_url(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = ran(monkeypatch, PLAN, PAID, FORGED, acknowledged=[1])
    assert [finding.kind for finding in result.findings] == [DiscrepancyKind.BELIEVED, DiscrepancyKind.REFUSED]


def test_shortest_run_has_one_request() -> None:
    assert structs.replace(PLAN, rate=0.01, duration_s=1.0).total == 1
