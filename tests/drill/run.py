"""Have the faults one after the other, and note when each is seen."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from deploy.monitoring.rules import PREFIX
from tests.drill import faults
from tests.drill.faults import Fault, Look, Scene
from tests.drill.payments import Fared
from tests.support import monitored

WARM_UP_S = 60.0  # Prometheus needs some scrapes before a rate has a value
WITHIN_S = 900.0
LOOK_EVERY_S = 0.5


class Seen(Struct, frozen=True, kw_only=True):
    """When something told of a fault, in seconds after it began, and the words."""

    after_s: float
    words: str = ""


class Result(Struct, frozen=True, kw_only=True):
    """What was seen of one fault. `load` is the machine's load average over a minute, at the begin and at the end."""

    fault: Fault
    page: Seen
    command: Seen
    pending: Seen
    alert: Seen
    others: tuple[str, ...]
    fared: Fared
    normal: Seen | None
    cleared: Seen | None
    load: tuple[float, float]


class Drill(Struct, frozen=True, kw_only=True):
    """All results, with the machine."""

    began: datetime
    cores: int
    results: tuple[Result, ...]


Say = Callable[[str], None]


async def all_of(chosen: Sequence[Fault], scene: Scene, *, say: Say) -> Drill:
    """Have each fault in turn; payments go on all the time."""
    paying = asyncio.create_task(scene.payments.run())
    try:
        await asyncio.sleep(WARM_UP_S)
        # What the counter was before, else Prometheus sees no increase.
        exported = 'count(alipay_notify_held_total{reason="amount_mismatch"} == 0)'
        await monitored.eventually(lambda: scene.query(exported) > 0, "the counters are not scraped")
        began, running = datetime.now(UTC), []
        async with asyncio.TaskGroup() as group:
            for fault in chosen:
                running.append(group.create_task(_one(fault, scene, told := asyncio.Event(), say)))
                await (told.wait() if fault.goes_on else running[-1])
    finally:
        paying.cancel()
    return Drill(began=began, cores=os.cpu_count() or 0, results=tuple(task.result() for task in running))


async def _one(fault: Fault, scene: Scene, told: asyncio.Event, say: Say) -> Result:
    before, load = set(monitored.firing(scene.alertmanager)), os.getloadavg()[0]
    say(f"{fault.title} …")
    since = time.monotonic()
    async with asyncio.TaskGroup() as group:
        beginning = group.create_task(fault.begin(scene))
        alert = group.create_task(_until(lambda scene: _firing(fault, scene), scene, since))
        pending = group.create_task(_until(lambda scene: _pending(fault, scene), scene, since))
        page = group.create_task(_until(fault.page, scene, since))
        command = group.create_task(_until(fault.command, scene, since))
        await asyncio.gather(beginning, page, command)
        say(f"  page: {page.result()}\n  command: {command.result()}")
        told.set()
        overlaps = time.monotonic()
    mended = time.monotonic()
    say(f"  {fault.alert}: pending {pending.result().after_s:.1f} s, in Alertmanager {alert.result().after_s:.1f} s")
    ours = {fault.alert for fault in faults.ALL}
    others = sorted(set(monitored.firing(scene.alertmanager)) - before - ours)
    await fault.end(scene)
    normal = cleared = None
    if not fault.goes_on:
        normal = await _until(lambda scene: "" if fault.command(scene) else "normal", scene, mended)
    if fault.clears:
        cleared = await _until(lambda scene: "" if _firing(fault, scene) else "cleared", scene, mended)
    fared = await asyncio.to_thread(scene.payments.fared, since, overlaps if fault.goes_on else mended)
    say(f"  payments: {fared}; other alerts: {others}")
    return Result(
        fault=fault,
        page=page.result(),
        command=command.result(),
        pending=pending.result(),
        alert=alert.result(),
        others=tuple(others),
        fared=fared,
        normal=normal,
        cleared=cleared,
        load=(load, os.getloadavg()[0]),
    )


async def _until(look: Look, scene: Scene, since: float) -> Seen:
    """Look again and again, in a thread, until something is seen."""
    while not (words := await asyncio.to_thread(look, scene)):
        assert time.monotonic() - since < WITHIN_S, "it is not seen"
        await asyncio.sleep(LOOK_EVERY_S)
    return Seen(after_s=time.monotonic() - since, words=words)


def _firing(fault: Fault, scene: Scene) -> str:
    found = monitored.firing(scene.alertmanager).get(fault.alert, [])
    return fault.alert if any(fault.labels.items() <= labels.items() for labels in found) else ""


def _pending(fault: Fault, scene: Scene) -> str:
    """Return the alert if Prometheus' expression holds, also if not for long enough yet."""
    alerts = monitored.asked(f"{scene.prometheus}/api/v1/alerts")["data"]["alerts"]
    return fault.alert if any(each["labels"]["alertname"] == PREFIX + fault.alert for each in alerts) else ""
