"""Playing a plan: its courses side by side, and within each the steps one after another, as Alipay would send them.

A step that was not answered as it should be does not hold up the next one: its retries go on beside it, because that is
how late and out-of-order notifications come about in life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from deploy.sandbox.delivery import Attempt, Errand, Sender
from deploy.sandbox.scenario import Course


class Registry(Protocol):
    """Where a merchant says which orders it expects."""

    async def register(self, account: str, order: str, *, amount: str, currency: str) -> None: ...


async def register(courses: Sequence[Course], registry: Registry, *, amount: str, always: bool = False) -> None:
    """Does the merchant's part for accounts that take only registered orders; for others only where it is asked for."""
    for course in courses:
        identity = course[0].errand.notification.account.identity
        if identity.registered or always:
            order = course[0].errand.notification.order
            await registry.register(identity.name, order, amount=amount, currency=identity.currency)


async def play(courses: Sequence[Course], sender: Sender) -> None:
    """Sends everything; returns when nothing is left that Alipay would send again."""
    async with asyncio.TaskGroup() as tasks:
        for course in courses:
            tasks.create_task(_play_course(course, sender))


async def _play_course(course: Course, sender: Sender) -> None:
    async with asyncio.TaskGroup() as retries:
        for step in course:
            await sender.pause(step.wait_s)
            last = await _tell(step.errand, sender)
            if last.again_in_s is not None:
                retries.create_task(sender.resend(step.errand, after=last))


async def _tell(errand: Errand, sender: Sender) -> Attempt:
    """The first delivery and its copies; only the last answer is one that Alipay has seen."""
    for number in range(1, errand.copies):
        await sender.attempt(errand, number=number, settles=False)
    return await sender.attempt(errand, number=errand.copies)
