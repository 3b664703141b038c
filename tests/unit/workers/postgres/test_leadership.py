"""Leadership by a lease: how often a worker asks, and when it leads. On a server: tests/contract/test_outbox.py."""

import time
from typing import Any

import pytest

from tests.unit.workers.postgres.sql_connection import ScriptedConnection
from workers.errors import InfrastructureDown, RowsLocked
from workers.postgres.database import Work
from workers.postgres.leadership import Leadership


class LeaseTable:
    """A database with one lease, which `holder` has."""

    def __init__(self) -> None:
        self.holder: str | None = None
        self.asked = 0
        self.is_down = False
        self.is_locked = False

    async def write(self, work: Work[Any], *, first: str = "") -> Any:
        if self.is_down:
            raise InfrastructureDown("no answer")
        if self.is_locked:
            raise RowsLocked("a stranger has the row")
        return await work(ScriptedConnection(self._answer))

    def _answer(self, query: str, args: tuple[Any, ...]) -> Any:
        _, holder, *_ = args
        if query.startswith("DELETE"):
            self.holder = None if self.holder == holder else self.holder
            return None
        self.asked += 1
        if self.holder not in (None, holder):
            return None
        self.holder = holder
        return True


def worker(table: LeaseTable, holder: str, *, lease_s: float = 15.0) -> Leadership:
    return Leadership(table, role="sending", holder=holder, lease_s=lease_s)  # type: ignore[arg-type]


async def test_first_worker_leads_and_asks_the_database_seldom() -> None:
    table = LeaseTable()
    first, second = worker(table, "first"), worker(table, "second")
    assert [await first.leads() for _ in range(3)] == [True] * 3
    assert [await second.leads() for _ in range(3)] == [False] * 3
    assert table.asked == 2


async def test_worker_knows_without_asking_whether_it_has_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the lease has expired, also while the database is down."""
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    table = LeaseTable()
    first, second = worker(table, "first"), worker(table, "second")
    assert [first.is_leading, second.is_leading] == [False, False]
    assert [await first.leads(), await second.leads()] == [True, False]
    assert (first.is_leading, second.is_leading, table.asked) == (True, False, 2)
    table.is_down = True
    now_s += 14
    with pytest.raises(InfrastructureDown):
        await first.leads()
    held = [first.is_leading]
    now_s += 2
    held.append(first.is_leading)
    table.is_down = False
    await first.leads()
    held.append(first.is_leading)
    await first.resign()
    assert [*held, first.is_leading] == [True, False, True, False]


async def test_worker_does_not_lead_while_the_database_is_down() -> None:
    table = LeaseTable()
    first = worker(table, "first", lease_s=0)  # asks each time
    assert await first.leads()
    table.is_down = True
    with pytest.raises(InfrastructureDown):
        await first.leads()
    table.is_down, table.holder = False, "second"
    assert not await first.leads()


async def test_resigned_leader_is_followed_at_once() -> None:
    table = LeaseTable()
    first, second = worker(table, "first"), worker(table, "second", lease_s=0)
    assert await first.leads()
    assert not await second.leads()
    await first.resign()
    assert await second.leads()


async def test_resigning_changes_nothing_for_a_follower_and_survives_an_outage() -> None:
    table = LeaseTable()
    first, second = worker(table, "first"), worker(table, "second")
    assert await first.leads()
    assert not await second.leads()
    await second.resign()
    assert table.holder == "first"
    table.is_down = True
    await first.resign()
    assert table.holder == "first"


async def test_worker_that_steps_aside_lets_another_one_lead_and_asks_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, now = LeaseTable(), [1000.0]
    monkeypatch.setattr("workers.postgres.leadership.time.monotonic", lambda: now[0])
    first, second = worker(table, "first"), worker(table, "second")
    assert await first.leads()
    await first.step_aside(6.0)
    assert table.holder is None
    now[0] += 5
    assert not await first.leads()
    assert await second.leads()
    await second.resign()
    now[0] += 2
    assert await first.leads()


async def test_worker_steps_aside_while_the_database_is_down() -> None:
    table = LeaseTable()
    first = worker(table, "first")
    assert await first.leads()
    table.is_down = True
    await first.step_aside(6.0)
    assert not await first.leads()


async def test_lease_whose_row_is_locked_stays_where_it_is() -> None:
    table = LeaseTable()
    first, second = worker(table, "first", lease_s=0), worker(table, "second", lease_s=0)
    assert await first.leads()
    table.is_locked = True
    assert await first.leads()
    assert not await second.leads()
