"""The notes on records that may be fatal, in the order store of each engine."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest

from deploy.embedded.fatal_records import SqliteBegunNotes
from deploy.embedded.store import SqliteOrderStore
from tests.contract.engines import Cluster, Engine
from tests.contract.test_store_wakes import stranger
from workers.errors import InfrastructureDown
from workers.fatal_records import Begun, BegunNotes
from workers.postgres.database import SqlConnection
from workers.postgres.fatal_records import PostgresBegunNotes
from workers.postgres.store import PostgresOrderStore
from workers.settlement.plan import Position

A, B, C = Position(0, 1), Position(0, 7), Position(3, 1)

Opener = Callable[[], BegunNotes]


@pytest.fixture
async def process(engine: Engine) -> AsyncIterator[Opener]:
    """A function that returns the notes of one more process. Whichever was there before has ended."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(engine.store())
        lives: list[BegunNotes] = []

        def one_more() -> BegunNotes:
            if isinstance(store, SqliteOrderStore):
                lives.append(SqliteBegunNotes(store.database))
            else:
                assert isinstance(store, PostgresOrderStore)
                lives.append(PostgresBegunNotes(store.database, holder=f"w{len(lives)}", surely_ended_s=-1))
            return lives[-1]

        yield one_more


def begun(position: Position, *, is_alone: bool, processes: int) -> Begun:
    return Begun(position=position, is_alone=is_alone, processes=processes, ended=processes)


async def test_process_sees_the_notes_of_others_in_its_partitions(process: Opener) -> None:
    first, second, third = process(), process(), process()
    assert list(await first.begin([A, C], is_alone=False)) == []
    assert list(await first.begin([A, C], is_alone=False)) == [], "its own do not count, and are kept once"
    assert list(await second.begin([B], is_alone=True)) == [begun(A, is_alone=False, processes=1)]
    await second.begin([A], is_alone=False)
    found = await third.begin([A], is_alone=True)
    assert sorted(found, key=lambda each: each.position) == [
        begun(A, is_alone=False, processes=2),
        begun(B, is_alone=True, processes=1),
    ]
    assert list(await third.begin([C], is_alone=True)) == [begun(C, is_alone=False, processes=1)]


async def test_notes_end_for_all_or_for_one_process(process: Opener) -> None:
    first, second, third = process(), process(), process()
    for each in (first, second):
        await each.begin([A, B], is_alone=True)
    await second.end([A, B], only_own=True)
    assert {each.processes for each in await third.begin([A], is_alone=True)} == {1}
    await second.end([A])
    assert list(await third.begin([C], is_alone=True)) == []
    assert list(await third.begin([B], is_alone=True)) == [begun(B, is_alone=True, processes=1)]


async def set_back(connection: SqlConnection, *, age: str) -> None:
    await connection.execute(f"UPDATE begun SET at = now() - interval '{age}' WHERE holder = 'a'")


async def test_note_that_a_shell_has_locked_stops_no_process(cluster: Cluster) -> None:
    async with cluster.store() as store:
        first, second = (PostgresBegunNotes(store.database, holder=name) for name in "ab")
        await first.begin([A, B], is_alone=True)
        await store.database.write(partial(set_back, age="8 days"))
        async with stranger(cluster, "SELECT 1 FROM begun WHERE log_offset = 1 FOR UPDATE"):
            await second.begin([A, B], is_alone=True)
            await second.end([A, B])
        third = PostgresBegunNotes(store.database, holder="c")
        assert list(await third.begin([C], is_alone=True)) == []


async def test_young_note_may_be_of_a_living_process_and_an_old_one_is_forgotten(cluster: Cluster) -> None:
    async with cluster.store() as store:
        first, second = (PostgresBegunNotes(store.database, holder=name) for name in "ab")
        await first.begin([A, B], is_alone=True)
        found = await second.begin([A], is_alone=False)
        assert {(each.processes, each.ended) for each in found} == {(1, 0)}
        for age, expected in (("91 seconds", {(1, 1)}), ("-1 hours", {(1, 1)}), ("8 days", set())):
            await store.database.write(partial(set_back, age=age))
            found = await second.begin([A], is_alone=False)
            assert {(each.processes, each.ended) for each in found} == expected, age


async def test_locked_table_of_notes_is_not_waited_for(cluster: Cluster) -> None:
    async with cluster.store() as store:
        notes = PostgresBegunNotes(store.database, holder="a")
        await notes.begin([A], is_alone=False)
        async with stranger(cluster, "LOCK TABLE begun IN ACCESS EXCLUSIVE MODE"):
            with pytest.raises(InfrastructureDown):
                await notes.end([A])
