"""A receiver or worker of the cluster engine with one fault planted between two of its steps.

    python -m tests.faults.breaking_cluster worker
    BREAK_AT=K4 BREAK_AFTER=2 BREAK_HOW=kill    dies by SIGKILL when it comes past that step for the second time
    BREAK_HOW=stop                              stands still there, until it gets SIGCONT
    BREAK_HOW=raise                             an exception of ours, once
    BREAK_HOW=cancel                            the task is cancelled, once

Like `tests.faults.breaking`, it wraps methods of the program before it starts: the program has no hooks for this.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka.producer.sender import SendProduceReqHandler

from deploy.cli import main
from ingest.http.connection import Connection
from ingest.http.request import Request
from ingest.kafka.batches import Batches
from ingest.kafka.producer import KafkaProducer
from ingest.kafka.publisher import Publisher
from ingest.receive import Reception
from tests.faults.breaking import Break, Step, _has_some, _names_some, after, after_awaiting, before
from workers.kafka.events import KafkaEvents
from workers.kafka.source import KafkaSource
from workers.postgres import load, settling
from workers.postgres.database import _Session
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.redis.locks import RedisLocks


def _before_commit_of_a_batch(step: Step) -> None:
    _around_commit(step, is_after=False)


def _after_commit_of_a_batch(step: Step) -> None:
    _around_commit(step, is_after=True)


def _around_commit(step: Step, *, is_after: bool) -> None:
    """Pass the step before the COMMIT of a batch, or as the server has done it and nobody here knows."""
    settle, execute = settling.settle, _Session.execute
    settled: set[Any] = set()

    async def noting(connection: Any, *arguments: Any, **options: Any) -> Any:
        result = await settle(connection, *arguments, **options)
        settled.add(connection)
        return result

    async def execute_and_break(self: _Session, query: str, *arguments: Any) -> str:
        is_ours = query == "COMMIT" and self in settled
        if is_ours and not is_after:
            step()
        status = await execute(self, query, *arguments)
        if is_ours:
            settled.discard(self)
            if is_after:
                step()
        return status

    settling.settle = noting
    _Session.execute = execute_and_break  # type: ignore[method-assign]


def _is_of_the_ledger(*arguments: Any) -> bool:
    return len(arguments) > 3 and arguments[2] == "notifications" and bool(arguments[-1])


WORKER: dict[str, Callable[[Step], None]] = {
    "K0": lambda step: after_awaiting(KafkaSource, "poll", step, when=_has_some),
    "K1": lambda step: before(Processing, "_settle", step),
    "K2": lambda step: after_awaiting(RedisLocks, "acquire", step),
    "K3": lambda step: after_awaiting(load, "load", step),
    "K4": lambda step: after_awaiting(settling, "_copy", step, when=_is_of_the_ledger),
    "K5": _before_commit_of_a_batch,
    "K6": _after_commit_of_a_batch,
    "K7": lambda step: after_awaiting(PostgresOrderStore, "settle", step),
    "K8": lambda step: after_awaiting(KafkaEvents, "publish", step),
    "K9": lambda step: before(PostgresOrderStore, "mark_sent", step, when=_names_some),
    "K10": lambda step: after_awaiting(PostgresOrderStore, "mark_sent", step),
    "K11": lambda step: after_awaiting(RedisLocks, "release", step),
    "K12": lambda step: after_awaiting(KafkaSource, "commit", step),
}
RECEIVER: dict[str, Callable[[Step], None]] = {
    "R0": lambda step: after(Connection, "connection_made", step),
    "R1": lambda step: before(Reception, "receive", step),
    "R2": lambda step: after_awaiting(Request, "read_body", step),
    "R3": lambda step: before(Publisher, "append", step),
    "R4": lambda step: before(KafkaProducer, "send", step),
    "R5": lambda step: before(SendProduceReqHandler, "create_request", step),
    "R6": lambda step: before(Batches, "_end", step),
    "R7": lambda step: after_awaiting(Publisher, "append", step),
    "R8": lambda step: after(Connection, "_write", step),
}
POINTS = {**WORKER, **RECEIVER}
# They run in a callback of the event loop, where there is no task to cancel.
CALLBACKS = frozenset({"R0", "R1", "R2", "R3", "R4", "R6", "R7", "R8"})


def plant(environment: Mapping[str, str]) -> None:
    """Plant the fault that the environment asks for."""
    point, how = environment["BREAK_AT"], environment["BREAK_HOW"]
    POINTS[point](Break(point, how, int(environment["BREAK_AFTER"])))


if __name__ == "__main__":
    plant(os.environ)
    main.main()
