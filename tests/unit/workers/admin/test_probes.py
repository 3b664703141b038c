"""Probes and metrics: readiness by the needed checks, and no token."""

from tests.support.admin import World, form, serving
from workers.admin.probes import Check


async def test_probes_and_metrics_need_no_token_and_name_failed_checks() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world, carried=None) as client:
        assert (await client.get("/livez")).status == 200
        assert await (await client.get("/readyz")).text() == "ok"
        world.checks = [Check(name="store", ok=False, detail="no answer"), Check(name="keys", ok=True)]
        failing = await client.get("/readyz?verbose")
        assert (failing.status, await (await client.get("/readyz")).text()) == (503, "not ready: store")
        failed = {"name": "store", "ok": False, "detail": "no answer", "is_needed": True}
        assert (await failing.json())["checks"][0] == failed
        metrics = await (await client.get("/metrics")).text()
    assert 'alipay_notify_processed_total{result="applied"} 1.0' in metrics


async def test_failed_check_that_is_not_needed_leaves_the_process_ready() -> None:
    world = World()
    world.checks = [Check(name="worker", ok=False, detail="stopped", is_needed=False), Check(name="journal", ok=True)]
    async with serving(world) as client:
        ready = await client.get("/readyz?verbose")
        assert (ready.status, (await ready.json())["ok"]) == (200, True)
        assert (await ready.json())["checks"][0]["ok"] is False
        assert await (await client.get("/readyz")).text() == "ok, but not well: worker"


async def test_metrics_have_their_length_and_a_head_request_gets_only_that() -> None:
    async with serving(World()) as client:
        shown, head = await client.get("/metrics"), await client.head("/metrics")
        assert shown.headers["Content-Type"].startswith("text/plain")
        assert shown.headers["X-Content-Type-Options"] == "nosniff"
        assert len(await shown.read()) == int(shown.headers["Content-Length"]) > 1000
        assert (head.status, await head.read()) == (200, b"")
        assert int(head.headers["Content-Length"]) > 1000
