"""Free ports that the kernel never gives away, and addresses read as such."""

import random
import socket

import pytest

from deploy.local import ports


def test_the_ports_are_different_and_below_those_that_the_kernel_gives_to_clients() -> None:
    drawn = ports.free(20)
    assert len({*drawn}) == 20
    assert all(ports.FIRST <= port <= ports.LAST < 32_768 for port in drawn)


def test_a_port_on_which_somebody_listens_is_not_given() -> None:
    would_be = ports.free(1, random.Random(7))
    with socket.create_server((ports.LOOPBACK, *would_be)):
        assert not ports.is_free(would_be[0])
        assert ports.free(1, random.Random(7)) != would_be
    assert ports.is_free(would_be[0])


def test_more_ports_than_there_are_is_an_error_and_no_endless_search() -> None:
    with pytest.raises(ports.NoPort):
        ports.free(ports.TRIES_MAX + 1)


async def test_a_port_answers_while_somebody_listens_on_it() -> None:
    (port,) = ports.free(1)
    assert not await ports.answers(ports.LOOPBACK, port)
    with socket.create_server((ports.LOOPBACK, port)):
        assert await ports.answers(ports.LOOPBACK, port)


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:9092", ("127.0.0.1", 9092)), ("kafka.example:1", ("kafka.example", 1)), ("[::1]:9092", ("::1", 9092))],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert ports.parts(address) == parts


@pytest.mark.parametrize("address", ["9092", "localhost", "localhost:", "localhost:kafka", ":9092", ""])
def test_anything_else_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="not a host and a port"):
        ports.parts(address)


def test_a_port_that_is_wanted_is_had_where_it_is_free() -> None:
    free, taken = ports.free(2)
    with socket.create_server((ports.LOOPBACK, taken)):
        first, second = ports.preferred([free, taken])
    assert first == free
    assert second not in (free, taken)
