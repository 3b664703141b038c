"""A connection that records statements and answers them from a script, for tests without a server."""

from collections.abc import Callable, Sequence
from typing import Any

Answer = Callable[[str, tuple[Any, ...]], Any]


class ScriptedConnection:
    """`answer(query, args)` is the result of every statement."""

    def __init__(self, answer: Answer) -> None:
        self.statements: list[tuple[str, tuple[Any, ...]]] = []
        self._answer = answer

    async def execute(self, query: str, *args: Any) -> str:
        return str(self._run(query, args))

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        found: list[Any] = self._run(query, args)
        return found

    async def fetchrow(self, query: str, *args: Any) -> Any:
        return self._run(query, args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        return self._run(query, args)

    async def copy_records_to_table(
        self, table_name: str, *, records: Sequence[Sequence[Any]], columns: Sequence[str]
    ) -> str:
        return str(self._run(f"COPY {table_name}", (records, columns)))

    def _run(self, query: str, args: tuple[Any, ...]) -> Any:
        self.statements.append((query, args))
        return self._answer(query, args)
