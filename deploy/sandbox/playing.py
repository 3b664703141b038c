"""Play planned scenarios: register their orders, and send their notifications.

`play` runs the courses of a plan concurrently, and the steps of one course one after another. A step that is not
answered as expected does not delay the next one: its retries continue beside it, as with Alipay, and that is how
notifications arrive out of order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from deploy.sandbox.delivery import Attempt, DeliveryJob, Sender
from deploy.sandbox.planning import Course
from deploy.sandbox.scenario import Scenario


class Registry(Protocol):
    """The admin API at which a merchant registers its orders."""

    async def register(
        self, account: str, order: str, expectation: Mapping[str, object], /, auth_app_id: str = ""
    ) -> None: ...


async def register(scenario: Scenario, courses: Sequence[Course], registry: Registry, *, asked: bool) -> None:
    """Register the orders that the scenario or the account wants registered; `asked`: the others too, unless forbidden.

    A scenario with `registers = false` shows what happens to an order without a registration.
    """
    for course in courses:
        identity = course.account.identity
        if identity.registered or (asked if scenario.registers is None else scenario.registers):
            for merchant in course.merchants:
                await registry.register(identity.name, course.order, course.expectation, auth_app_id=merchant)


async def play(courses: Sequence[Course], sender: Sender) -> None:
    """Send everything. Return when Alipay would send nothing again."""
    async with asyncio.TaskGroup() as tasks:
        for course in courses:
            tasks.create_task(_play_course(course, sender))


async def _play_course(course: Course, sender: Sender) -> None:
    async with asyncio.TaskGroup() as retries:
        for step in course.steps:
            await sender.pause(step.wait_s)
            last = await _send(step.job, sender)
            if last.again_in_s is not None:
                retries.create_task(sender.resend(step.job, after=last))


async def _send(job: DeliveryJob, sender: Sender) -> Attempt:
    """Send the notification and its copies. Only the last answer counts as received by Alipay."""
    for number in range(1, job.copies):
        await sender.attempt(job, number=number, settles=False)
    return await sender.attempt(job, number=job.copies)
