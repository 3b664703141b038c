"""Ways in which a notification is held before it is decided: our code fails on it, or a row that it needs is locked."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from schemas import interpret
from workers import record_reader
from workers.settlement import decision
from workers.settlement.plan import ParsedRecord, WritePlan


@contextmanager
def deciding_fails() -> Iterator[None]:
    """Every notification fails while it is decided; dead letters do not."""
    decide = decision.decide

    def fail(parsed_records: Sequence[ParsedRecord], *arguments: Any, **options: Any) -> WritePlan:
        if any(parsed.notification is not None for parsed in parsed_records):
            raise KeyError("planted")
        return decide(parsed_records, *arguments, **options)

    with mock.patch.object(decision, "decide", fail):
        yield


@contextmanager
def reading_fails() -> Iterator[None]:
    """Every notification fails while it is read."""
    with mock.patch.object(interpret, "read", side_effect=KeyError("planted")):
        yield


@contextmanager
def rows_are_locked() -> Iterator[None]:
    """Another session has locked a row that every notification needs."""
    decide = decision.decide

    def park(parsed_records: Sequence[ParsedRecord], *arguments: Any, **options: Any) -> WritePlan:
        return decide([record_reader.locked(parsed) for parsed in parsed_records], *arguments, **options)

    with mock.patch.object(decision, "decide", park):
        yield


@contextmanager
def all_is_well() -> Iterator[None]:
    """Nothing fails."""
    yield


FAILURES: tuple[Callable[[], Any], ...] = (deciding_fails, reading_fails, rows_are_locked)
