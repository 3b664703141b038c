"""The console's page of callbacks."""

from msgspec import structs

from tests.support.admin import NOW_MS, World, serving
from workers.callbacks.schedule import EndpointState


async def test_page_shows_endpoints_and_the_log_of_one() -> None:
    world = World()
    failed = EndpointState(disabled_at_ms=NOW_MS, disabled_why="<b>gone</b>")
    world.callbacks.page = structs.replace(world.callbacks.page, state=failed)
    async with serving(world) as client:
        page = await (await client.get("/callbacks")).text()
        assert "https://shop.example/callbacks<" in page
        assert "&lt;b&gt;gone" in page
        assert "shop:A1:3" not in page
        log = await (await client.get("/callbacks?endpoint=hooks")).text()
        assert "shop:A1:3" in log
        assert "behind an earlier event" in log
        delivered = await (await client.get("/callbacks?endpoint=hooks&state=delivered")).text()
        assert ("shop:A1:1" in delivered, "shop:A1:3" in delivered) == (True, False)
        assert (await client.get("/callbacks?endpoint=nobody")).status == 404
        assert (await client.get("/callbacks?endpoint=hooks&state=lost")).status == 400


async def test_log_goes_on_page_by_page() -> None:
    world = World()
    world.callbacks.log = [world.callbacks.row(number, NOW_MS) for number in range(80, 0, -1)]
    async with serving(world) as client:
        first = await (await client.get("/callbacks?endpoint=hooks")).text()
        assert "/callbacks?endpoint=hooks&amp;before=31" in first
        rest = await (await client.get("/callbacks?endpoint=hooks&before=31")).text()
        assert ("shop:A1:30" in rest, 'rel="next"' in rest) == (True, False)
