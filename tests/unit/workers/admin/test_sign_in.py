"""Who acts: the name of the token, which no request can replace by another; and the sign-in of a browser."""

import base64
from collections.abc import Callable

import pytest
from aiohttp.test_utils import make_mocked_request

from tests.support.admin import TOKEN, Client, World, form, serving
from workers.admin import sign_in
from workers.admin.operators import Operator
from workers.admin.responses import ApiError
from workers.audit import AuditQuery

ALICE, BOB = Operator("alice", b"the-token-of-alice"), Operator("bob", b"the-token-of-bob")
BOTH = (ALICE, BOB)


def bearer(operator: Operator) -> dict[str, str]:
    return {"Authorization": f"Bearer {operator.token.decode()}"}


def basic(password: str, name: str = "anybody") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


async def test_without_a_named_token_the_given_name_is_recorded() -> None:
    request = make_mocked_request("POST", "/")
    for operator in (None, Operator("", TOKEN.encode())):
        sign_in.set_visitor(request, operator, needs_token=operator is not None)
        assert sign_in.acting(request, " kim ").startswith("kim (")
        assert sign_in.acting(request, "").startswith("api (")
        assert sign_in.acting(request, "k\x00m").startswith("k\\x00m (")
        assert len(sign_in.acting(request, "x" * 100).partition(" (")[0]) == sign_in.NAME_CHARACTERS_MAX


async def test_given_name_cannot_look_like_that_of_a_token() -> None:
    request = make_mocked_request("POST", "/")
    sign_in.set_visitor(request, ALICE, needs_token=True)
    by_token = sign_in.acting(request, "")
    assert by_token.startswith("alice (token, ")
    sign_in.set_visitor(request, None, needs_token=False)
    assert sign_in.acting(request, by_token) != by_token
    assert not sign_in.acting(request, by_token).rpartition(" (")[2].startswith("token")


async def test_named_token_acts_under_its_name_only() -> None:
    request = make_mocked_request("POST", "/")
    sign_in.set_visitor(request, ALICE, needs_token=True)
    for given in ("", "  ", "alice", " Alice "):
        assert sign_in.acting(request, given).startswith("alice (token, ")
    for given in ("bob", "alice b", "аlice"):  # the last begins with a Cyrillic letter
        with pytest.raises(ApiError, match="this token is that of alice: leave out by") as refused:
            sign_in.acting(request, given)
        assert (refused.value.status, refused.value.code) == (403, "another_name")


WRITES = [
    ("POST", "/api/held/0-1/replay", {}),
    ("POST", "/api/held/0-1/accept", {}),
    ("POST", "/api/held/0-1/discard", {}),
    ("POST", "/api/held/0-1/refund-outside", {"amount": "12.80"}),
    ("POST", "/api/held/0-1/snooze", {"until": "4h"}),
    ("POST", "/api/held/0-1/unsnooze", {}),
    ("POST", "/api/held/replay", {"dry_run": False}),
    ("POST", "/api/held/tasks", {}),
    ("POST", "/api/held/tasks/1/cancel", {}),
    ("PUT", "/api/orders/strict/B1", {"amount": "12.80"}),
    ("POST", "/api/orders/shop/A1/erase", {}),
    ("POST", "/api/orders/shop/A1/resend", {}),
    ("POST", "/api/notifications/0-1/reveal", {}),
    ("POST", "/api/callbacks/fulfilment/enable", {}),
    ("POST", "/api/callbacks/fulfilment/disable", {}),
    (
        "POST",
        "/api/requests/shop",
        {"product": "h5", "order": "B1", "amount": "1.00", "currency": "USD", "subject": "x", "register": True},
    ),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_write_in_anothers_name_is_refused_and_changes_nothing(
    method: str, path: str, body: dict[str, object]
) -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    await world.deliver(form("A1"))
    reason = {} if "orders/strict" in path or "requests" in path else {"reason": "asked"}
    async with serving(world, operators=BOTH, carried=BOB.token.decode()) as client:
        if path.endswith("cancel"):
            assert (await client.post("/api/held/tasks", json={"reason": "asked"})).status == 201
        before = len(world.store.audit)
        answer = await client.request(method, path, json=body | reason | {"by": "alice"})
        said = await answer.json()
    assert (answer.status, said["error"]) == (403, "another_name")
    line = [line for event, line in world.log.lines if event == "admin_write"][-1]
    assert (line["status"], line["by"]) == (403, "bob")
    assert len(world.store.audit) == before
    assert "B1" not in str(world.store.orders)


async def test_audit_has_the_names_of_the_tokens_whatever_the_requests_say() -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    async with serving(world, operators=BOTH, carried=None) as client:
        for operator, given in ((ALICE, {}), (BOB, {"by": "bob"})):
            body = {"reason": "asked", **given}
            answer = await client.post("/api/notifications/0-1/reveal", json=body, headers=bearer(operator))
            assert answer.status == 200
    found = await world.audit.audit_list(AuditQuery(action="reveal"))
    assert [each.by for each in found.entries] == ["bob (token, 127.0.0.1)", "alice (token, 127.0.0.1)"]


async def test_requests_on_one_connection_are_each_by_their_own_token() -> None:
    async with serving(World(), operators=BOTH, carried=None) as client:
        names = [await name_of(client, headers) for headers in (bearer(ALICE), {}, bearer(BOB), basic("wrong"))]
    assert names == ["alice", None, "bob", None]


async def name_of(client: Client, headers: dict[str, str]) -> str | None:
    answer = await (await client.get("/api/operator", headers=headers)).json()
    assert answer["signed_in"] is (answer["operator"] is not None)
    name: str | None = answer["operator"]
    return name


@pytest.mark.parametrize(
    ("token", "carried", "expected"),
    [
        (None, None, {"operator": None, "signed_in": False, "token_needed": False}),
        (TOKEN, None, {"operator": None, "signed_in": False, "token_needed": True}),
        (TOKEN, TOKEN, {"operator": None, "signed_in": True, "token_needed": True}),
    ],
)
async def test_api_says_who_is_signed_in(token: str | None, carried: str | None, expected: dict[str, object]) -> None:
    async with serving(World(), token=token, carried=carried) as client:
        assert await (await client.get("/api/operator")).json() == expected


async def test_browser_is_asked_for_the_token_and_led_back_to_its_page() -> None:
    async with serving(World(), operators=BOTH, carried=None) as client:
        asked = await client.get("/sign-in?then=/held", headers={"Accept": "text/html"}, allow_redirects=False)
        assert (asked.status, asked.headers["WWW-Authenticate"]) == (401, sign_in.CHALLENGE)
        headers = basic(ALICE.token.decode(), name="bob")  # only the token counts
        done = await client.get("/sign-in?then=/held?account=shop", headers=headers, allow_redirects=False)
        assert (done.status, done.headers["Location"]) == (302, "/held?account=shop")
        page = await (await client.get("/held", headers=headers)).text()
        assert 'data-operator="alice"' in page
        assert 'name="by"' not in page
        assert ALICE.token.decode() not in page


async def test_change_of_the_operator_asks_until_another_token_comes() -> None:
    async with serving(World(), operators=BOTH, carried=None) as client:

        async def status(operator: Operator) -> int:
            path = "/sign-in?instead_of=alice"
            return (await client.get(path, headers=basic(operator.token.decode()), allow_redirects=False)).status

        assert [await status(each) for each in BOTH] == [401, 302]


@pytest.mark.parametrize(
    "then",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "held",
        "",
        "/%0d%0aSet-Cookie:x=1\r\nX: y",
        "/\t/evil.example",
        "//[",
    ],
)
async def test_sign_in_leads_to_no_other_address(then: str) -> None:
    async with serving(World()) as client:
        answer = await client.get("/sign-in", params={"then": then}, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (302, "/")


PAGES: dict[str, Callable[[str], bool]] = {
    "/held": lambda page: 'id="many"' in page,
    "/held/0-1": lambda page: "data-held=" in page and "data-reveal=" in page,
}


@pytest.mark.parametrize("path", PAGES)
async def test_page_offers_actions_to_those_who_may_write_and_a_sign_in_to_others(path: str) -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    async with serving(world, carried=None) as client:
        page = await (await client.get(path)).text()
        assert not PAGES[path](page)
        assert f'href="/sign-in?then={path.replace("/", "%2F")}"' in page
        page = await (await client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})).text()
        assert PAGES[path](page)
        assert 'name="by"' in page
        assert "signed in, without a name" in page
    async with serving(world, token=None, carried=None) as client:
        page = await (await client.get(path)).text()
        assert PAGES[path](page)
        assert "sign-in" not in page
