"""`schemas/openapi.yaml`: valid, complete, and true of an admin port that answers generated requests."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.admin import TOKEN, World, form
from tests.support.paths import ROOT
from workers.admin.guard import Access
from workers.admin.operators import Operator

DOCUMENT = ROOT / "schemas/openapi.yaml"
EXAMPLES = 10  # generated requests for each operation


def document() -> dict[str, Any]:
    read: dict[str, Any] = msgspec.yaml.decode(DOCUMENT.read_bytes())
    return read


def test_document_is_valid() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_every_route_of_the_admin_port_is_described_and_no_other() -> None:
    served = {
        (route.method, route.resource.canonical)
        for route in World().application().router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {
        (method.upper(), path)
        for path, item in document()["paths"].items()
        for method in item
        if method in {"get", "put", "post", "delete"} and not path.startswith("/notify/")
    }
    api = {each for each in served if each[1].startswith("/api/") or each[1] in {"/livez", "/readyz", "/metrics"}}
    assert described == api


class AdminThread:
    """An admin port in a thread, since schemathesis waits for its answers; with some orders and held notifications."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        return asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(30)

    async def _start(self) -> str:
        world = World()
        for number in range(5):
            await world.deliver(form(f"A{number}"))
            await world.deliver(form(f"B{number}"), "strict")
        world.changes.close()  # long polls are answered at once
        world.tail.close()  # and streams end
        self.runner = web.AppRunner(world.application(Access(operators=(Operator("", TOKEN.encode()),))))
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with AdminThread() as address:
        yield address


_FOUND: Any = schemathesis.openapi.from_path(DOCUMENT).exclude(path="/notify/{account}").get_all_operations()
OPERATIONS: dict[str, Any] = {each.ok().label: each.ok() for each in _FOUND}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_admin_port_answers_as_it_is_described(operation: str, url: str) -> None:
    """The same requests in each run: valid ones, and ones that break the schema."""
    # A schema cannot say all rules, for example those between fields: what breaks them is 400 all the same.
    excluded: Any = [positive_data_acceptance]
    sent: list[int] = []

    @given(st.one_of(*(OPERATIONS[operation].as_strategy(generation_mode=mode) for mode in GenerationMode)))
    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    def ask(case: Any) -> None:
        answer = case.call(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"})
        sent.append(answer.status_code)
        case.validate_response(answer, excluded_checks=excluded)

    ask()
    assert sent
