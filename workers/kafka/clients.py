"""Builds the Kafka clients of a worker, with the settings of production, and disposes of them in any state."""

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

STOP_S = 3.0  # a healthy member leaves in some milliseconds; one that waits for a rebalance may take 30 s
FORCE_S = 1.0
POLL_INTERVAL_MS = 300_000
SESSION_S = 30.0  # by default, brokers accept 6 s to 30 min
# New topics and new partitions are noticed within this time, at the cost of a small request.
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
    """Return a group member that is neither started nor subscribed. `connection`: bootstrap servers and security.

    `session_s` is the time after the last heartbeat of a member until the group reassigns its partitions.
    """
    settings: dict[str, Any] = {
        "group_id": group,
        "client_id": client_id(),
        "enable_auto_commit": False,
        "auto_offset_reset": "none",  # `start_offset` decides, and reports deleted records
        # All assignors of aiokafka stop the group for a moment. Its sticky one keeps state on the class, and its static
        # membership stalls coordination.
        "partition_assignment_strategy": (RoundRobinPartitionAssignor,),
        "group_instance_id": None,
        "fetch_max_wait_ms": 200,
        "max_partition_fetch_bytes": 1 << 20,
        "session_timeout_ms": round(session_s * 1000),
        "heartbeat_interval_ms": 1_000,  # the other members notice a leave this soon
        "rebalance_timeout_ms": 30_000,
        "request_timeout_ms": 40_000,  # longer than a rebalance, during which join requests wait for their answer
        "max_poll_interval_ms": poll_interval_ms,
        "metadata_max_age_ms": METADATA_AGE_MS,
        "retry_backoff_ms": 200,
    }
    return AIOKafkaConsumer(**{**settings, **connection, **more})


def producer(connection: Mapping[str, Any], **more: Any) -> AIOKafkaProducer:
    """Return a producer that is not started. A send is acknowledged when all in-sync replicas have the record.

    Without idempotence, because an idempotent aiokafka producer waits forever if a broker is gone, even in `stop`.
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
    """Return the name of this process in the brokers' logs."""
    return f"alipay-notify-worker-{socket.gethostname()}-{os.getpid()}"


async def dispose(client: KafkaClient, *, within_s: float = STOP_S) -> bool:
    """Stop the client, by force after `within_s`. Return whether it stopped by itself.

    When this returns, no task and no connection of the client is left. A lingering consumer would go on sending
    heartbeats for a member that is no longer read.
    """
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
    """Return the parts to end after an interrupted `stop`, which does nothing when it is called again.

    These are internals of aiokafka, whose minor version is pinned. A test on a real broker checks that they suffice.
    """
    coordinator, fetcher = getattr(client, "_coordinator", None), getattr(client, "_fetcher", None)
    sender, connections = getattr(client, "_sender", None), getattr(client, "_client", getattr(client, "client", None))
    parts: list[Any] = []
    if coordinator is not None:
        parts += [
            _end(coordinator._coordination_task),
            _end(coordinator._heartbeat_task),
            _end(coordinator._commit_refresh_task),
            coordinator._maybe_leave_group(),
        ]
    if fetcher is not None:
        parts.append(fetcher.close())
    if sender is not None:
        parts.append(_end(sender.sender_task))
    if connections is not None:
        parts.append(connections.close())
    return parts


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task}, timeout=FORCE_S)
