"""A run, from the first signature to the verdict: the story of `alipay-notify load`.

mark      where the events end now
send      sign, and send at the rate, each attempt recorded
judge     the answers; then every order's page and every event since the mark
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from deploy.load import corpus, figures, judge, progress, senders, verification
from deploy.load.api import AdminFeed, Api
from deploy.load.corpus import Mix, Share
from deploy.load.figures import Figures
from deploy.load.generator import LoadLimits, Target
from deploy.load.judge import Discrepancy, Named, SentOrder
from deploy.load.origin import Origin
from deploy.load.senders import SentLog, Task
from deploy.load.verification import FeedReader, Verified

_MARK_WITHIN_S = 10.0


class Checks(Struct, frozen=True, kw_only=True):
    """Where the outcome is looked at, and for how long. Without `admin` only the answers are judged.

    `kafka` is how the brokers are reached, as aiokafka names it; empty where events come from the admin API.
    """

    admin: str = ""
    kafka: Mapping[str, Any] = {}
    topic: str = ""
    within_s: float = 120.0


class LoadPlan(Struct, frozen=True, kw_only=True):
    """All that a run is."""

    to: str
    target: Target
    host: str
    origin: Origin
    mixed: Mix
    rate: float
    duration_s: float
    processes: int
    limits: LoadLimits
    repeat: bool
    seed: int
    checks: Checks
    history: str = ""

    @property
    def total(self) -> int:
        """How many requests fall due."""
        return max(1, round(self.rate * self.duration_s))


class Result(Struct, frozen=True, kw_only=True):
    """What came of it. `findings` are those of answers and verification; `verified` is `None` without one."""

    plan: LoadPlan
    told: Mapping[str, int]
    figures: Figures
    verified: Verified | None
    findings: tuple[Discrepancy, ...]


class _Mark(Struct, frozen=True):
    """Where the events ended before the first request."""

    number: int = 0
    offsets: Mapping[int, int] = {}


def run(plan: LoadPlan) -> Result:
    """Do all of it.

    Raises:
        SenderFailed: nothing can be sent.
        Unreadable: the outcome cannot be looked at.
    """
    checks = plan.checks
    mark = asyncio.run(_marked(checks)) if checks.admin else _Mark()
    log = senders.send([_task(plan, number) for number in range(plan.processes)])
    orders = judge.orders(log.told, log.attempts)
    verified = asyncio.run(_verified(plan, orders, mark)) if checks.admin else None
    found = [*judge.of_answers(orders.values(), repeated=plan.repeat), *(verified.findings if verified else ())]
    return Result(
        plan=plan,
        told=_counted(log),
        figures=figures.summed(log.attempts, behind_s=log.behind_s),
        verified=verified,
        findings=tuple(sorted(found)),
    )


def _task(plan: LoadPlan, number: int) -> Task:
    return Task(
        share=Share(seed=plan.seed, number=number, of=plan.processes),
        total=plan.total,
        rate=plan.rate,
        mixed=plan.mixed,
        origin=plan.origin,
        target=plan.target,
        host=plan.host,
        # The bound is that of the run, whoever sends.
        limits=_shared(plan.limits, plan.processes),
        repeat=plan.repeat,
        history=plan.history,
    )


def _shared(limits: LoadLimits, processes: int) -> LoadLimits:
    return LoadLimits(
        connections=max(1, limits.connections // processes), timeout_s=limits.timeout_s, drain_s=limits.drain_s
    )


def _counted(log: SentLog) -> dict[str, int]:
    counts = Counter("forged" if one.forged else "duplicates" if one.again else "new" for one in log.told)
    orders = {(one.account, one.order) for one in log.told if not one.forged}
    return {name: counts[name] for name in ("new", "duplicates", "forged")} | {"orders": len(orders)}


async def _marked(checks: Checks) -> _Mark:
    async with Api(checks.admin, until=time.monotonic() + _MARK_WITHIN_S) as admin:
        number = await admin.last_event()
    if not checks.kafka:
        return _Mark(number=number)
    from deploy.load import topic

    return _Mark(number=number, offsets=await topic.mark(checks.kafka, checks.topic))


async def _verified(plan: LoadPlan, orders: Mapping[Named, SentOrder], mark: _Mark) -> Verified:
    until = time.monotonic() + plan.checks.within_s
    touched = {named: order for named, order in orders.items() if order.was_called}
    async with Api(plan.checks.admin, until=until) as admin, _feed(plan.checks, admin, mark) as feed:
        with progress.stage("verifying", len(touched)) as stage:
            return await verification.verify(
                touched,
                prefix=f"{corpus.run_name(plan.seed)}-",
                pages=admin,
                feed=feed,
                until=until,
                stage=stage,
            )


@asynccontextmanager
async def _feed(checks: Checks, admin: Api, mark: _Mark) -> AsyncIterator[FeedReader]:
    if not checks.kafka:
        yield AdminFeed(admin, after=mark.number)
        return
    from deploy.load import topic

    async with topic.feed(checks.kafka, checks.topic, mark.offsets) as feed:
        yield feed
