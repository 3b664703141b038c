"""What each failure of PostgreSQL means to the workers."""

import asyncpg
import pytest
from asyncpg import exceptions

from workers.errors import InfrastructureDamaged, InfrastructureDown, RecordRefused
from workers.postgres import errors
from workers.postgres.errors import Collided


def server_error(state: str) -> Exception:
    error: Exception = exceptions.PostgresError.new({"C": state, "M": "as the server put it"})
    return error


def told(error: Exception) -> Exception:
    """As it is raised to the workers."""
    translated = errors.translated(error)
    translated.__cause__ = error
    return translated


MEANINGS = {
    "40001": Collided,
    "40P01": Collided,
    "22021": RecordRefused,  # a zero byte in a text
    "22003": RecordRefused,  # a number out of range
    "23505": RecordRefused,
    "23514": RecordRefused,
    "54000": RecordRefused,  # too long for an index
    "42P01": InfrastructureDamaged,  # no such table
    "42501": InfrastructureDamaged,  # no right to it
    "XX001": InfrastructureDamaged,
    "XX002": InfrastructureDamaged,
    "XX000": InfrastructureDown,
    "08006": InfrastructureDown,
    "25006": InfrastructureDown,  # read-only
    "28P01": InfrastructureDown,  # a password that is being changed
    "53100": InfrastructureDown,  # disk full
    "53300": InfrastructureDown,  # too many connections
    "55P03": InfrastructureDown,  # a lock that did not come free
    "57014": InfrastructureDown,
    "57P01": InfrastructureDown,
    "57P03": InfrastructureDown,
    "58030": InfrastructureDown,
    "ZZ999": InfrastructureDown,  # whatever a later server may say
}


@pytest.mark.parametrize("state", MEANINGS)
def test_the_state_decides_what_an_error_means(state: str) -> None:
    translated = errors.translated(server_error(state))
    assert type(translated) is MEANINGS[state]
    assert "as the server put it" in str(translated)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        asyncpg.InternalClientError("another operation is in progress"),
        TimeoutError(),
        asyncpg.InterfaceError("closed"),
        asyncpg.ConnectionDoesNotExistError("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_happens_on_the_way_is_nobodys_record(error: Exception) -> None:
    assert not errors.is_answered(told(error))
    assert type(told(error)) is InfrastructureDown


@pytest.mark.parametrize(
    ("state", "is_answered"), [("23505", True), ("55P03", True), ("57P01", False), ("08006", False)]
)
def test_a_connection_is_as_good_as_before_where_the_server_answered(state: str, is_answered: bool) -> None:
    assert errors.is_answered(told(server_error(state))) is is_answered


def test_only_a_unique_key_names_the_table_that_has_it_already() -> None:
    taken: Exception = exceptions.PostgresError.new({"C": "23505", "M": "taken", "t": "orders"})
    assert errors.violated_table(told(taken)) == "orders"
    assert errors.violated_table(told(server_error("23514"))) is None
    assert errors.violated_table(ZeroDivisionError()) is None
