"""Run a load: the steps of `alipay-notify load`.

mark      read the number and offsets of the last event
send      sign the requests, send them at the rate, record each attempt
judge     check the answers, then every order's page and every event after the mark
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
from deploy.load.judge import Discrepancy, OrderKey, SentOrder
from deploy.load.origin import Origin
from deploy.load.senders import SentLog, Task
from deploy.load.verification import FeedReader, Verified

_MARK_WITHIN_S = 10.0


class Checks(Struct, frozen=True, kw_only=True):
    """The sources for the verification, and its time limit. Without `admin` only the answers are judged.

    `kafka` holds aiokafka's arguments for the brokers; if it is empty, events come from the admin API.
    """

    admin: str = ""
    admin_token: str = ""
    kafka: Mapping[str, Any] = {}
    topic: str = ""
    within_s: float = 120.0


class LoadPlan(Struct, frozen=True, kw_only=True):
    """The settings of a run."""

    to: str
    target: Target
    host: str
    origin: Origin
    mix: Mix
    rate: float
    duration_s: float
    processes: int
    limits: LoadLimits
    retry: bool
    seed: int
    checks: Checks
    history: str = ""

    @property
    def total(self) -> int:
        """The number of requests that become due."""
        return max(1, round(self.rate * self.duration_s))


class Result(Struct, frozen=True, kw_only=True):
    """The result of a run: its requests by kind, the figures, the verification if there was one, and all findings."""

    plan: LoadPlan
    sent: Mapping[str, int]
    figures: Figures
    verified: Verified | None
    findings: tuple[Discrepancy, ...]


class _Mark(Struct, frozen=True):
    """The end of the events before the first request."""

    number: int = 0
    offsets: Mapping[int, int] = {}


def run(plan: LoadPlan) -> Result:
    """Carry out the whole run.

    Raises:
        SenderFailed: a sender cannot sign or send.
        UnreadableAnswer: the order pages or the events cannot be read.
    """
    checks = plan.checks
    mark = asyncio.run(_mark(checks)) if checks.admin else _Mark()
    log = senders.send([_task(plan, number) for number in range(plan.processes)])
    orders = judge.orders(log.sent, log.attempts)
    verified = asyncio.run(_verified(plan, orders, mark)) if checks.admin else None
    found = [*judge.check_answers(orders.values(), repeated=plan.retry), *(verified.findings if verified else ())]
    return Result(
        plan=plan,
        sent=_counted(log),
        figures=figures.summed(log.attempts, behind_s=log.behind_s),
        verified=verified,
        findings=tuple(sorted(found)),
    )


def _task(plan: LoadPlan, number: int) -> Task:
    return Task(
        share=Share(seed=plan.seed, number=number, of=plan.processes),
        total=plan.total,
        rate=plan.rate,
        mix=plan.mix,
        origin=plan.origin,
        target=plan.target,
        host=plan.host,
        # The processes share the run's connections.
        limits=_shared(plan.limits, plan.processes),
        retry=plan.retry,
        history=plan.history,
    )


def _shared(limits: LoadLimits, processes: int) -> LoadLimits:
    return LoadLimits(
        connections=max(1, limits.connections // processes), timeout_s=limits.timeout_s, drain_s=limits.drain_s
    )


def _counted(log: SentLog) -> dict[str, int]:
    counts = Counter("forged" if one.forged else "duplicates" if one.duplicate else "new" for one in log.sent)
    orders = {(one.account, one.order) for one in log.sent if not one.forged}
    return {name: counts[name] for name in ("new", "duplicates", "forged")} | {"orders": len(orders)}


async def _mark(checks: Checks) -> _Mark:
    async with Api(checks.admin, until=time.monotonic() + _MARK_WITHIN_S, token=checks.admin_token) as admin:
        number = await admin.last_event()
    if not checks.kafka:
        return _Mark(number=number)
    from deploy.load import topic

    return _Mark(number=number, offsets=await topic.mark(checks.kafka, checks.topic))


async def _verified(plan: LoadPlan, orders: Mapping[OrderKey, SentOrder], mark: _Mark) -> Verified:
    until = time.monotonic() + plan.checks.within_s
    touched = {key: order for key, order in orders.items() if order.was_called}
    async with (
        Api(plan.checks.admin, until=until, token=plan.checks.admin_token) as admin,
        _feed(plan.checks, admin, mark) as feed,
    ):
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
