"""Idle connections are closed if there are too many, and never all at once."""

import asyncio
from typing import cast
from unittest.mock import Mock

from ingest.http.open_connections import EVICTED_PART, PARSED_IN_A_TURN, REFUSED_PART, Open, OpenConnections


class FakeConnection:
    def __init__(self, *, is_idle: bool = True, has_sent_request: bool = False) -> None:
        self.is_idle = is_idle
        self.has_sent_request = has_sent_request
        self.can_be_closed = True
        self.is_closed = False

    def abort(self) -> None:
        self.is_closed = True


def join(connections: OpenConnections, connection: FakeConnection) -> bool:
    return connections.join(cast(Open, connection))


def full_of(*members: FakeConnection) -> OpenConnections:
    connections = OpenConnections(connections_max=len(members))
    assert all(join(connections, member) for member in members)
    return connections


async def test_new_connection_replaces_the_oldest_idle_one() -> None:
    busy, oldest, newer = FakeConnection(is_idle=False), FakeConnection(), FakeConnection()
    assert join(full_of(busy, oldest, newer), FakeConnection())
    assert (busy.is_closed, oldest.is_closed, newer.is_closed) == (False, True, False)


async def test_connection_without_any_request_is_closed_before_one_of_the_load_balancer() -> None:
    balancer, stranger = FakeConnection(has_sent_request=True), FakeConnection()
    connections = full_of(balancer, stranger)
    assert join(connections, FakeConnection(is_idle=False))
    assert (balancer.is_closed, stranger.is_closed) == (False, True)
    assert join(connections, FakeConnection(is_idle=False))
    assert balancer.is_closed, "if no other connection is idle"


async def test_new_connection_is_refused_if_no_connection_is_idle() -> None:
    busy = [FakeConnection(is_idle=False) for _ in range(3)]
    connections = full_of(*busy)
    assert not join(connections, FakeConnection())
    assert not any(connection.is_closed for connection in busy)
    connections.leave(cast(Open, busy[0]))
    assert join(connections, FakeConnection())


async def test_connection_whose_request_waits_to_be_read_is_not_closed_for_a_new_one() -> None:
    idle, overloaded = FakeConnection(), FakeConnection()
    overloaded.can_be_closed = False
    connections = full_of(overloaded, idle)
    assert join(connections, FakeConnection(is_idle=False))
    assert not join(connections, FakeConnection())
    assert (idle.is_closed, overloaded.is_closed) == (True, False)


async def test_a_part_of_the_limit_may_join_beyond_it_to_be_refused() -> None:
    connections = full_of(*(FakeConnection(is_idle=False) for _ in range(2 * REFUSED_PART)))
    refused = [cast(Open, FakeConnection(is_idle=False)) for _ in range(3)]
    assert [connections.join_to_be_refused(each) for each in refused] == [True, True, False]
    connections.leave(refused[0])
    assert connections.join_to_be_refused(refused[2])
    assert not join(connections, FakeConnection())


async def test_a_twentieth_of_the_idle_connections_is_closed_at_a_time() -> None:
    idle = [FakeConnection() for _ in range(3 * EVICTED_PART)]
    connections = full_of(*idle)
    for _ in range(3):
        assert join(connections, FakeConnection(is_idle=False))
    assert [connection.is_closed for connection in idle] == [True] * 3 + [False] * (len(idle) - 3)
    assert join(connections, FakeConnection(is_idle=False))
    assert sum(connection.is_closed for connection in idle) == 6


async def test_closed_connection_may_leave_again_when_its_socket_is_gone() -> None:
    idle = FakeConnection()
    connections = full_of(idle)
    assert join(connections, FakeConnection(is_idle=False))
    connections.leave(cast(Open, idle))
    assert not join(connections, FakeConnection())


async def test_one_connection_is_parsed_in_each_turn_of_the_loop() -> None:
    connections = OpenConnections(connections_max=9)
    parsed: list[str] = []

    class Long:
        def __init__(self, name: str, pieces: int) -> None:
            self.name, self.pieces = name, pieces

        def parse_next(self) -> None:
            parsed.append(self.name)
            self.pieces -= 1
            if self.pieces:
                connections.parse_later(cast(Open, self))

    for long in (Long("a", 3), Long("b", 1), Long("c", 2)):
        connections.parse_later(cast(Open, long))
    for turn in range(1, 7):
        await asyncio.sleep(0)
        assert len(parsed) == turn
    await asyncio.sleep(0)
    assert parsed == ["a", "b", "c", "a", "c", "a"]


async def test_connection_that_fails_to_parse_does_not_stop_the_next() -> None:
    connections = OpenConnections(connections_max=9)
    failing, next_one = Mock(parse_next=Mock(side_effect=ValueError)), Mock()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    connections.parse_later(failing)
    connections.parse_later(next_one)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    next_one.parse_next.assert_called_once_with()


class Greedy(FakeConnection):
    """Has always more to parse."""

    def __init__(self, connections: OpenConnections, size: int) -> None:
        super().__init__(is_idle=False)
        self.turns = 0
        self._connections = connections
        self._size = size

    def parse_next(self) -> int:
        self.turns += 1
        self._connections.parse_later(cast(Open, self))
        return self._size


async def test_each_connection_parses_once_a_turn_and_all_together_a_limited_size() -> None:
    connections = OpenConnections(connections_max=9)
    nothing = Greedy(connections, 0)
    connections.parse_later(cast(Open, nothing))
    await asyncio.sleep(0)
    assert nothing.turns == 1, "even if it parses nothing"
    assert not connections.may_parse(1), "it comes first"

    connections = OpenConnections(connections_max=9)
    assert connections.may_parse(PARSED_IN_A_TURN)
    assert not connections.may_parse(1)
    many = [Greedy(connections, PARSED_IN_A_TURN // 2) for _ in range(4)]
    for each in many:
        connections.parse_later(cast(Open, each))
    await asyncio.sleep(0)
    assert [each.turns for each in many] == [1, 1, 0, 0]
    await asyncio.sleep(0)
    assert [each.turns for each in many] == [1, 1, 1, 1]


async def test_next_turn_of_the_loop_may_parse_again() -> None:
    connections = OpenConnections(connections_max=9)
    assert connections.may_parse(PARSED_IN_A_TURN)
    await asyncio.sleep(0)
    assert connections.may_parse(1)


class Staged(FakeConnection):
    """Its request has stages, and notes each in `log`."""

    def __init__(self, connections: OpenConnections, log: list[str], name: str, *, stages: int) -> None:
        super().__init__(is_idle=False)
        self._connections = connections
        self._log = log
        self._name = name
        self._stages = iter(range(1, stages + 1))

    def next_stage(self) -> None:
        stage = next(self._stages, None)
        if stage is not None:
            self._log.append(f"{self._name}{stage}")
            self._connections.stage(cast(Open, self))


async def test_all_requests_of_a_turn_finish_a_stage_before_any_begins_the_next() -> None:
    connections = OpenConnections(connections_max=9)
    log: list[str] = []
    for name, stages in (("a", 2), ("b", 3), ("c", 1)):
        connections.stage(cast(Open, Staged(connections, log, name, stages=stages)))
    assert log == [], "the requests that this turn still brings take part"
    await asyncio.sleep(0)
    assert log == ["a1", "b1", "c1", "a2", "b2", "b3"]
    connections.stage(cast(Open, Staged(connections, log, "d", stages=1)))
    await asyncio.sleep(0)
    assert log[6:] == ["d1"]


async def test_request_whose_stage_fails_does_not_stop_the_next() -> None:
    connections = OpenConnections(connections_max=9)
    failing, next_one = Mock(next_stage=Mock(side_effect=ValueError)), Mock()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    connections.stage(failing)
    connections.stage(next_one)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    next_one.next_stage.assert_called_once_with()
