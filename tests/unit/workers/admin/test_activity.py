"""The console's charts: rises of counters, values of gauges, and their bounded memory."""

from tests.support.admin import World, form
from workers.admin.activity import SAMPLES_MAX, Activity


async def test_curves_show_rises_of_counters_and_values_of_gauges() -> None:
    world = World()
    activity = Activity(world.registry, counts=world.own.counts)
    assert [curve.figure for curve in activity.curves()] == ["0"] * 6
    activity.sample()
    for number in range(3):
        await world.deliver(form(f"A{number}"))
    await world.deliver(form("B1"), "strict")
    await world.metrics.refresh(world.store)
    activity.sample()
    figures = {curve.name: curve.figure for curve in activity.curves()}
    assert (figures["Applied"], figures["Held"], figures["Unsent events"]) == ("3", "1", "4")
    for _ in range(200):
        activity.sample()
    assert all(len(curve.points.split()) <= SAMPLES_MAX for curve in activity.curves())


def test_console_without_receiver_and_worker_leaves_out_their_curves() -> None:
    activity = Activity(World().registry, counts=None)
    assert [curve.name for curve in activity.curves()] == ["Held", "Unsent events"]
