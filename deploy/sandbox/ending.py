"""Compare what became of a scenario's notifications with the end that the scenario promises, by the admin API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from deploy.sandbox import field_sets
from deploy.sandbox.planning import Course
from deploy.sandbox.scenario import End

_AGAIN_S = 0.2


class Answers(Protocol):
    """The part of the admin API that is compared."""

    async def order(self, account: str, order: str, /, auth_app_id: str = "") -> dict[str, Any]: ...

    async def held(self, account: str, reason: str, /) -> list[dict[str, Any]]: ...

    async def find(self, number: str, /) -> dict[str, Any]: ...


async def differences(courses: Sequence[Course], answers: Answers, *, within_s: float) -> list[str]:
    """Return what differs from the promised ends, one text each. Ask again for `within_s` seconds until nothing does.

    Raises:
        AdminUnavailableError: the admin API gave no usable answer.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = [each for course in courses async for each in _differences(course, answers)]
        if not found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(_AGAIN_S)


async def _differences(course: Course, answers: Answers) -> AsyncIterator[str]:
    end, account = course.end, course.account.identity.name
    if end is None:
        return
    for key in course.orders:
        page = await answers.order(account, key.number, auth_app_id=key.auth_app_id)
        of = f" of {key.auth_app_id}" if key.auth_app_id else ""
        for name, (is_, should) in _compared(course, end, page).items():
            if is_ != should:
                yield f"order {key.number}{of}: {name} is {is_}, should be {should}"
    ids = {step.job.notification.notify_id for step in course.steps}
    for reason in end.held:
        rows = await answers.held(account, reason)
        if not any(row["notification_id"] in ids or _is_unnumbered(course, row) for row in rows):
            yield f"nothing is held as {reason}"
    for name in end.noted:
        for number in _values(course, name):
            noted = (await answers.find(number)).get("notifications") or ()
            if not any(row["notification_id"] in ids for row in noted):
                yield f"no notification is found by {name} {number}"
    for name in end.found:
        for number in _values(course, name):
            matches = (await answers.find(number)).get("matches") or ()
            if not any((match.get("auth_app_id", ""), match["order"]) in course.orders for match in matches):
                yield f"no order is found by {name} {number}"


def _is_unnumbered(course: Course, row: Mapping[str, Any]) -> bool:
    """Return whether a held notification without any number that can be believed may be of this play, by its time."""
    return not row["order"] and datetime.fromisoformat(row["first_at"]) >= course.planned


def _compared(course: Course, end: End, page: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
    """Return each compared property of the order: its value and the promised one."""
    if not end.status:
        moved = [each for each in page.get("timeline", ()) if each.get("reason") == "changed"]
        flags = sorted(page.get("flags", ()))
        return {"moved": (bool(moved), False), "flags": (flags, sorted(end.flags))}
    minor = course.amount_minor
    if end.amount:
        minor = field_sets.minor_units(end.amount, course.currency)
    # The website product reports a payment as TRADE_FINISHED.
    website = course.account.identity.product == "website"
    status = "FINISHED" if website and end.status == "PAID" else end.status
    refunded = minor * int(end.refunded.replace(".", "")) // 100
    because = end.because or ("refunded" if end.status == "CLOSED" and refunded else None)
    return {
        "status": (page.get("status"), status),
        "closed_because": (page.get("closed_because"), because),
        "amount_minor": (page.get("amount_minor"), minor),
        "currency": (page.get("currency"), course.currency),
        "refunded_minor": (page.get("refunded_minor"), refunded),
        "flags": (sorted(page.get("flags", ())), sorted(end.flags)),
    }


def _values(course: Course, name: str) -> list[str]:
    """Return the values by which a notification has to be found. `notify_id` is an Antom message's business key."""
    notifications = [step.job.notification for step in course.steps]
    if name == "notify_id":
        return [one.notify_id for one in notifications]
    return list(dict.fromkeys(value for one in notifications for value in _named(one.fields, name)))


def _named(fields: Iterable[tuple[str, object]], name: str) -> Iterator[str]:
    """Yield the values of the fields of this name, also inside `biz_content`."""
    for field, value in fields:
        if field == name:
            yield str(value)
        if field == "biz_content" and isinstance(value, str):
            value = json.loads(value)
        if isinstance(value, dict):
            yield from _named(value.items(), name)
