"""Checks of every request to the admin port: token, method, origin, host; and the answer to internal errors."""

import base64
from pathlib import Path

import pytest

from tests.support.admin import TOKEN, World, form, serving
from workers.admin import guard
from workers.admin.guard import Access, OpenAdmin
from workers.admin.operators import Operator
from workers.errors import ReadTooSlow

WRITES = [
    ("POST", "/api/held/0-1/replay"),
    ("POST", "/api/held/0-1/discard"),
    ("POST", "/api/held/replay"),
    ("PUT", "/api/orders/shop/A1"),
]
ONE = (Operator("", TOKEN.encode()),)
BY_GET = [path for method, path in WRITES if method == "POST"]


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize("carried", [None, "another-token-altogether", TOKEN.upper()])
async def test_l08_write_without_the_token_is_401_and_leaves_a_log_line(
    method: str, path: str, carried: str | None
) -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    async with serving(world, carried=carried) as client:
        answer = await client.request(method, path, json={"reason": "r", "amount": "1.00"})
        assert (answer.status, (await answer.json())["error"]) == (401, "no_token")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    lines = [line for event, line in world.log.lines if event == "admin_write"]
    assert [(line["status"], "by" in line) for line in lines] == [(401, False)]
    assert not world.store.audit
    assert not world.store.orders
    assert [page.resolution for page in world.store.pages.values()] == [""]


@pytest.mark.parametrize("path", BY_GET)
async def test_l08_write_by_get_is_405(path: str) -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        answer = await client.get(path)
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert not world.store.audit


async def test_error_is_a_page_for_a_browser_and_json_for_a_program() -> None:
    world = World()
    world.accounts_faults = ["account shop: key.pem cannot be read"]
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    async with serving(world) as client:
        for path, status in (("/nope", 404), ("/held/zzz", 404), ("/api/held?reason=because", 400), (BY_GET[0], 405)):
            answer = await client.get(path, headers=browser)
            assert (answer.status, answer.content_type) == (status, "text/html"), path
            text = await answer.text()
            assert '<html lang="en">' in text
            assert "key.pem" not in text
            for accepted in ({"Accept": "application/json"}, {"Accept": "*/*"}, {}):
                answer = await client.get(path, headers=accepted)
                assert (answer.status, answer.content_type) == (status, "application/json")
        write = await client.post("/api/held/0-1/replay", json={}, headers=browser)
        assert write.content_type == "application/json"
    async with serving(world, carried=None, reads_need_token=True) as client:
        answer = await client.get("/held", headers=browser)
        assert (answer.status, "Sign in first" in await answer.text()) == (401, True)
        assert answer.headers["WWW-Authenticate"].startswith("Basic")


async def test_error_page_escapes_what_the_path_says() -> None:
    async with serving(World()) as client:
        answer = await client.get("/held/%3Cscript%3Ealert(1)%3C%2Fscript%3E", headers={"Accept": "text/html"})
        assert "<script>" not in await answer.text()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_l08_write_from_another_site_is_403_even_with_the_token(
    method: str, path: str, headers: dict[str, str]
) -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        answer = await client.request(method, path, json={"reason": "r", "amount": "1.00"}, headers=headers)
        assert (answer.status, (await answer.json())["error"]) == (403, "cross_site")
    assert [line["status"] for event, line in world.log.lines if event == "admin_write"] == [403]
    assert not world.store.audit


async def test_write_from_the_console_is_accepted() -> None:
    world = World()
    async with serving(world) as client:
        own = {"Origin": f"http://{client.host}:{client.port}", "Sec-Fetch-Site": "same-origin"}
        answer = await client.put("/api/orders/shop/A1", json={"amount": "1.00"}, headers=own)
        assert answer.status == 201


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("path", ["/api/orders/shop/A1", "/", "/held", "/metrics"])
async def test_foreign_host_names_are_refused_with_and_without_a_token(path: str, token: str | None) -> None:
    world = World()
    async with serving(world, token=token, carried=token, names=frozenset({"pay.internal"})) as client:
        assert (await client.put("/api/orders/shop/A1", json={"amount": "1.00"})).status == 201
        for name in ("rebound.example", "127.0.0.1.nip.example:9464", "pay.internal.evil.example", "[::1", "a@b"):
            answer = await client.get(path, headers={"Host": name})
            assert (answer.status, (await answer.json())["error"]) == (403, "foreign_name")
        for name in ("localhost:9464", "[::1]:9464", "127.0.0.1", "PAY.internal:9464"):
            assert (await client.get(path, headers={"Host": name})).status == 200


async def test_probes_are_answered_under_any_host_name() -> None:
    async with serving(World(), carried=None, reads_need_token=True) as client:
        for path in ("/livez", "/readyz?verbose"):
            assert (await client.get(path, headers={"Host": "balancer.example"})).status == 200


@pytest.mark.parametrize("path", ["/api/orders", "/api/held", "/api/events", "/", "/held", "/style.css"])
async def test_reads_beyond_loopback_need_the_token(path: str) -> None:
    async with serving(World(), carried=None, reads_need_token=True) as client:
        for header in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic !"}, basic("another"), basic("")):
            answer = await client.get(path, headers=header)
            assert (answer.status, (await answer.json())["error"]) == (401, "no_token")
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert (await client.get("/metrics")).status == 200
        assert (await client.get(path, headers=basic(TOKEN))).status != 401
        assert (await client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})).status != 401


async def test_write_with_a_browsers_sign_in_is_accepted_from_the_console_only() -> None:
    async with serving(World(), carried=None, reads_need_token=True) as client:
        own = {**basic(TOKEN), "Sec-Fetch-Site": "same-origin"}
        foreign = {**basic(TOKEN), "Sec-Fetch-Site": "cross-site"}
        assert (await client.put("/api/orders/shop/A1", json={"amount": "1.00"}, headers=foreign)).status == 403
        assert (await client.put("/api/orders/shop/A1", json={"amount": "1.00"}, headers=own)).status == 201


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"operator:{password}".encode()).decode()}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "shop.example", ""])
def test_bind_beyond_loopback_needs_a_token(host: str, tmp_path: Path) -> None:
    with pytest.raises(OpenAdmin):
        guard.access(host=host, token_file=None)
    file = tmp_path / "token"
    file.write_text(TOKEN)
    access = guard.access(host=host, token_file=file, names="a.internal, B.internal,")
    assert access == Access(operators=ONE, names=frozenset({"a.internal", "b.internal"}), reads_need_token=True)
    assert TOKEN not in repr(access)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_bind_to_loopback_needs_no_token(host: str) -> None:
    assert guard.access(host=host, token_file=None) == Access()


def test_faulty_token_file_is_refused_even_on_loopback(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("alice: a-long-enough-token\nalice: another-long-token\n")
    with pytest.raises(OpenAdmin, match="line 2 has the name of line 1 again"):
        guard.access(host="127.0.0.1", token_file=file)


def test_process_carries_the_first_token_to_the_others() -> None:
    assert Access(operators=(Operator("a", b"x" * 16), Operator("b", b"y" * 16))).first_token == b"x" * 16
    assert Access().first_token is None


@pytest.mark.parametrize("carried", ["token-of-bob-16-and-more", "token-of-alice-16-and-more"])
async def test_every_operator_may_read_and_write(carried: str) -> None:
    operators = (Operator("alice", b"token-of-alice-16-and-more"), Operator("bob", b"token-of-bob-16-and-more"))
    async with serving(World(), operators=operators, carried=carried, reads_need_token=True) as client:
        assert (await client.get("/api/held")).status == 200
        assert (await client.put("/api/orders/shop/A1", json={"amount": "1.00"})).status == 201
        assert (await client.get("/api/held", headers={"Authorization": f"Bearer alice: {carried}"})).status == 401


async def test_l06_internal_error_shows_no_internals_and_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async def fail(*_: object) -> None:
        raise RuntimeError("/etc/secret-path")

    monkeypatch.setattr(world.store, "order_list", fail)
    async with serving(world) as client:
        answer = await client.get("/api/orders")
        text = await answer.text()
    assert (answer.status, answer.headers["Server"]) == (500, "alipay-notify")
    assert "secret-path" not in text
    assert ("admin_failed", {"route": "/api/orders", "error": "RuntimeError"}) in world.log.lines


async def test_unknown_path_and_method_are_answered_in_json() -> None:
    async with serving(World()) as client:
        missing, wrong = await client.get("/api/nothing"), await client.delete("/api/orders/shop/A1")
        assert (missing.status, (await missing.json())["error"]) == (404, "unknown_path")
        assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, HEAD, PUT")


async def test_read_that_takes_too_long_is_503_and_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise ReadTooSlow("the order store took longer than 3 s")

    world = World()
    monkeypatch.setattr(world.store, "held_list", fail)
    async with serving(world) as client:
        for path in ("/api/held", "/held"):
            answer = await client.get(path)
            said = await answer.json()
            assert (answer.status, answer.headers["Retry-After"], said["error"]) == (503, "1", "read_too_slow")
            assert said["detail"].startswith("the order store took longer than 3 s; ask for less")
