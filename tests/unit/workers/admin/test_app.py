"""The composed admin port: its paths are the documented ones, and a process without orders has few of them."""

import re

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from tests.support.admin import World
from tests.support.fakes import MemoryLogger
from tests.support.paths import ROOT
from workers.admin import app
from workers.admin.probes import Check


def served(application: web.Application) -> set[tuple[str, str]]:
    """Methods and paths of the application, in the notation of OpenAPI."""
    return {
        (route.method, re.sub(r"\{(\w+):[^}]+\}", r"{\1}", route.resource.canonical))
        for route in application.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


def test_openapi_document_has_exactly_the_paths_and_methods_of_the_api() -> None:
    text = (ROOT / "schemas" / "openapi.yaml").read_text(encoding="utf-8")
    described = set()
    path = ""
    for line in text.partition("\nwebhooks:")[0].splitlines():
        if match := re.fullmatch(r"  (/\S*):", line):
            path = match[1]
        elif match := re.fullmatch(r"    (get|put|post|delete):", line):
            described.add((match[1].upper(), path))
    api = {
        (method, path)
        for method, path in served(World().application())
        if path.startswith(("/api", "/livez", "/readyz", "/metrics"))
    }
    assert described == api | {("POST", "/notify/{account}")}


async def test_process_without_orders_serves_only_probes_metrics_and_its_state() -> None:
    async def ready() -> list[Check]:
        return [Check(name="receiver", ok=True)]

    own = World().own
    application = app.probes(own=own, readiness=ready, registry=CollectorRegistry(), log=MemoryLogger())
    assert served(application) == {("GET", path) for path in ("/livez", "/readyz", "/metrics", "/api/process")}
    async with TestClient(TestServer(application)) as client:
        answer = await client.get("/readyz")
        assert (answer.status, answer.headers["Server"]) == (200, "alipay-notify")
        assert (await client.get("/api/orders")).status == 404


async def test_shutdown_ends_all_long_polls() -> None:
    world = World()
    async with TestServer(world.application()):
        assert not world.changes.is_closed
    assert world.changes.is_closed
