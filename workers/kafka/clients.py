"""The Kafka clients of a worker, with the settings that are shipped, and how one is got rid of whatever its state.

What the settings guard against is said beside them. A client that does not stop in time is taken apart by force: its
tasks are cancelled and its connections closed, since one that lingers would go on sending heartbeats for a member that
nobody reads for. That part reaches into the library, whose minor version is pinned, and a test on a real broker holds
it to its word.
"""

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

STOP_S = 3.0  # a member in good standing leaves in some milliseconds; one that waits for a rebalance might take 30 s
FORCE_S = 1.0
POLL_INTERVAL_MS = 300_000
SESSION_S = 30.0  # brokers take 6 s to 30 min unless told otherwise
# A topic that is made, or given more partitions, is noticed within this time; what it costs is a small request.
METADATA_AGE_MS = 10_000
BATCH_BYTES = 256 * 1024


class KafkaClient(Protocol):
    """A client that can be stopped."""

    async def stop(self) -> None: ...


def consumer(
    connection: Mapping[str, Any],
    *,
    group: str,
    poll_interval_ms: int = POLL_INTERVAL_MS,
    session_s: float = SESSION_S,
    **more: Any,
) -> AIOKafkaConsumer:
    """A member of the group, not started, and subscribed to nothing yet. `connection` says where and as whom.

    `session_s` is how long the group waits for a word of a member before it gives its partitions to others.
    """
    settings: dict[str, Any] = {
        "group_id": group,
        "client_id": client_id(),
        "enable_auto_commit": False,
        "auto_offset_reset": "none",  # where to begin is decided by us, and losses are told of
        # All assignors of the library stop the group for a moment. Its sticky one keeps state on the class, and its
        # static membership stalls coordination.
        "partition_assignment_strategy": (RoundRobinPartitionAssignor,),
        "group_instance_id": None,
        "fetch_max_wait_ms": 200,
        "max_partition_fetch_bytes": 1 << 20,
        "session_timeout_ms": round(session_s * 1000),
        "heartbeat_interval_ms": 1_000,  # how soon the others learn that a member has left
        "rebalance_timeout_ms": 30_000,
        "request_timeout_ms": 40_000,  # more than the rebalance, during which a request to join stays unanswered
        "max_poll_interval_ms": poll_interval_ms,
        "metadata_max_age_ms": METADATA_AGE_MS,
        "retry_backoff_ms": 200,
    }
    return AIOKafkaConsumer(**{**settings, **connection, **more})


def producer(connection: Mapping[str, Any], **more: Any) -> AIOKafkaProducer:
    """A producer that says `acknowledged` when all in-sync replicas have it; not started.

    Without idempotence: with it, the library waits for ever where a broker is gone, and so does its `stop`.
    """
    settings: dict[str, Any] = {
        "client_id": client_id(),
        "acks": "all",
        "enable_idempotence": False,
        "max_batch_size": BATCH_BYTES,
        "linger_ms": 0,
        "compression_type": "snappy",
        "request_timeout_ms": 5_000,
        "metadata_max_age_ms": METADATA_AGE_MS,
        "retry_backoff_ms": 100,
    }
    return AIOKafkaProducer(**{**settings, **connection, **more})


def client_id() -> str:
    """What the brokers' logs call this process."""
    return f"alipay-notify-worker-{socket.gethostname()}-{os.getpid()}"


async def dispose(client: KafkaClient, *, within_s: float = STOP_S) -> bool:
    """Stop it, by force if need be; whether it went by itself. Nothing of it is left when this returns."""
    with suppress(Exception):
        async with asyncio.timeout(within_s):
            await client.stop()
            return True
    for part in _parts(client):
        with suppress(Exception, asyncio.CancelledError):
            async with asyncio.timeout(FORCE_S):
                await part
    return False


def _parts(client: Any) -> list[Any]:
    """What has to be ended where `stop` was broken off: it does nothing when it is called again."""
    coordinator, fetcher = getattr(client, "_coordinator", None), getattr(client, "_fetcher", None)
    sender, connections = getattr(client, "_sender", None), getattr(client, "_client", getattr(client, "client", None))
    parts: list[Any] = []
    if coordinator is not None:
        parts += [
            _ended(coordinator._coordination_task),
            _ended(coordinator._heartbeat_task),
            _ended(coordinator._commit_refresh_task),
            coordinator._maybe_leave_group(),
        ]
    if fetcher is not None:
        parts.append(fetcher.close())
    if sender is not None:
        parts.append(_ended(sender.sender_task))
    if connections is not None:
        parts.append(connections.close())
    return parts


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task}, timeout=FORCE_S)
