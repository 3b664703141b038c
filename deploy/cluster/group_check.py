"""The check of `doctor` on the consumer group of the workers: it has members, and they have divided the partitions."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from msgspec import Struct

from deploy.cluster.client_log import ClientLog
from deploy.doctor import Finding, FindingState

CLIENT_ID = "alipay-notify-doctor"
CLOSE_S = 2.0
STABLE = "Stable"
EMPTY = frozenset({"Empty", "Dead"})  # Dead: no worker has ever joined it, or its offsets have expired


class WorkerGroup(Struct, frozen=True, kw_only=True):
    """A consumer group as its coordinator describes it."""

    state: str
    members: int


async def examine(connection: Mapping[str, Any], name: str, *, within_s: float) -> Finding:
    """Return the finding about this group. `connection` is as in `kafka_admin.connected`."""
    try:
        with ClientLog():
            async with asyncio.timeout(within_s):
                group = await _described(connection, name)
    except (KafkaError, OSError, TimeoutError, ValueError, NotImplementedError) as error:
        detail = f"{name} could not be described: {type(error).__name__}"
        return Finding(name="group", state=FindingState.NOTE, detail=detail, advice="allow this user DESCRIBE on it")
    return finding(name, group)


def finding(name: str, group: WorkerGroup) -> Finding:
    """Return what this state of the group means."""
    if group.state in EMPTY:
        detail = f"{name} has no worker: notifications are acknowledged, and wait in the log"
        advice = "start a worker: `alipay-notify worker`"
        return Finding(name="group", state=FindingState.WRONG, detail=detail, advice=advice)
    members = "1 worker" if group.members == 1 else f"{group.members} workers"
    if group.state != STABLE:
        detail = f"{name} is dividing the partitions anew among {members} ({group.state})"
        advice = "look again; if it goes on, workers come and go: see their logs"
        return Finding(name="group", state=FindingState.NOTE, detail=detail, advice=advice)
    return Finding(name="group", state=FindingState.OK, detail=f"{name} has {members}, and is stable")


async def _described(connection: Mapping[str, Any], name: str) -> WorkerGroup:
    admin = AIOKafkaAdminClient(client_id=CLIENT_ID, **connection)
    try:
        await admin.start()
        (answer,) = await admin.describe_consumer_groups([name])
        code, _, state, _, _, members, *_ = answer.groups[0]
        if code:
            raise for_code(code)(name)
        return WorkerGroup(state=state, members=len(members))
    finally:
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await admin.close()
