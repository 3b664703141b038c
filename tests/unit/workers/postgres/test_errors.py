"""The workers' error for each failure of PostgreSQL."""

import asyncpg
import pytest
from asyncpg import exceptions

from workers.errors import InfrastructureDamaged, InfrastructureDown, RecordRefused, RowsLocked
from workers.postgres import errors
from workers.postgres.errors import Collided


def server_error(state: str) -> Exception:
    error: Exception = exceptions.PostgresError.new({"C": state, "M": "as the server put it"})
    return error


def raised(error: Exception) -> Exception:
    """The error as the workers get it."""
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
    "55P03": RowsLocked,  # a lock that did not come free
    "57014": InfrastructureDown,
    "57P01": InfrastructureDown,
    "57P03": InfrastructureDown,
    "58030": InfrastructureDown,
    "ZZ999": InfrastructureDown,  # a code of a later server
}


@pytest.mark.parametrize("state", MEANINGS)
def test_error_code_decides_the_workers_error(state: str) -> None:
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
def test_failure_of_the_connection_is_an_outage(error: Exception) -> None:
    assert not errors.is_answered(raised(error))
    assert type(raised(error)) is InfrastructureDown


@pytest.mark.parametrize(
    ("state", "is_answered"),
    [("23505", True), ("55P03", True), ("57P01", False), ("08006", False), ("25006", False)],
)
def test_connection_is_usable_after_an_answered_error(state: str, is_answered: bool) -> None:
    assert errors.is_answered(raised(server_error(state))) is is_answered


def test_malformed_address_is_no_fault_of_a_record_and_is_not_quoted() -> None:
    translated = errors.translated(exceptions.ClientConfigurationError("invalid DSN: secret"))
    assert type(translated) is InfrastructureDown
    assert "secret" not in str(translated)


def test_only_a_unique_violation_names_its_table() -> None:
    taken: Exception = exceptions.PostgresError.new({"C": "23505", "M": "taken", "t": "orders"})
    assert errors.violated_table(raised(taken)) == "orders"
    assert errors.violated_table(raised(server_error("23514"))) is None
    assert errors.violated_table(ZeroDivisionError()) is None
