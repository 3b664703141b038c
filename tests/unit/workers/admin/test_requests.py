"""Requests over HTTP: signed with the admin token only, and registered with their amounts if that is wanted."""

from typing import Any

import pytest

from schemas.money import Money
from schemas.payment_request import SignedPayment
from tests.support.admin import ISV, TOKEN, World, serving
from workers.admin.requests import NoMerchantKey, UnsignableRequest

TEA = {"product": "h5", "order": "A1", "subject": "Tea", "amount": "12.80", "currency": "USD"}


async def test_request_is_signed_and_answered_with_its_address() -> None:
    world = World()
    async with serving(world) as client:
        answer = await client.post("/api/requests/shop", json=TEA | {"extra": {"payment_inst": "ALIPAYHK"}})
        assert (answer.status, await answer.json()) == (200, {
            "account": "shop", "order": "A1", "product": "h5", "url": "https://gateway.example/?sign=x",
            "order_string": None, "registered": False,
        })  # fmt: skip
    (asked,) = world.asked
    assert (asked.amount, asked.extra) == ("12.80", {"payment_inst": "ALIPAYHK"})
    assert not world.store.orders


@pytest.mark.parametrize(
    ("token", "carried", "status", "code"),
    [(None, None, 403, "token_needed"), (None, TOKEN, 403, "token_needed"), (TOKEN, None, 401, "no_token")],
)
async def test_nothing_is_signed_without_a_token(
    token: str | None, carried: str | None, status: int, code: str
) -> None:
    world = World()
    async with serving(world, token=token, carried=carried) as client:
        answer = await client.post("/api/requests/shop", json=TEA)
        assert (answer.status, (await answer.json())["error"]) == (status, code)
    assert not world.asked


async def test_registration_has_the_amounts_of_the_request() -> None:
    world = World(signed=SignedPayment(url="u", amounts=(Money(8000, "CNY"), Money(1280, "USD"))))
    async with serving(world) as client:
        body = TEA | {"rmb": "80.00", "register": True, "by": "kim"}
        assert (await (await client.post("/api/requests/strict", json=body)).json())["registered"] is True
        order = await (await client.get("/api/orders/strict/A1")).json()
    assert [each["amount_minor"] for each in order["expected_amounts"]] == [8000, 1280]
    assert world.store.audit[0][2].startswith("kim (")
    assert world.woken == 1


async def test_price_in_rmb_alone_is_not_registered() -> None:
    world = World()
    async with serving(world) as client:
        body = TEA | {"amount": "", "rmb": "80.00", "register": True}
        answer = await client.post("/api/requests/shop", json=body)
        assert (answer.status, "give amount too" in (await answer.json())["detail"]) == (400, True)
    assert not world.asked


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UnsignableRequest("amount is missing"), 400, "bad_request"),
        (NoMerchantKey("shop has no merchant_key_file"), 409, "no_merchant_key"),
    ],
)
async def test_request_that_cannot_be_signed_registers_nothing(error: Exception, status: int, code: str) -> None:
    world = World(signed=error)
    async with serving(world) as client:
        answer = await client.post("/api/requests/shop", json=TEA | {"register": True})
        assert (answer.status, await answer.json()) == (status, {"error": code, "detail": str(error)})
    assert not world.store.orders


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("nobody", TEA, 404),
        ("shop", {"product": "h5"}, 400),
        ("shop", TEA | {"amount": 12.8}, 400),
        ("shop", TEA | {"price": "1.00"}, 400),
    ],
)
async def test_body_of_another_shape_is_refused(path: str, body: dict[str, Any], status: int) -> None:
    world = World()
    async with serving(world) as client:
        assert (await client.post(f"/api/requests/{path}", json=body)).status == status
    assert not world.asked


async def test_request_of_a_merchant_is_signed_and_registered_for_it() -> None:
    world = World(signed=SignedPayment(url="u", amounts=(Money(1280, "CNY"),)))
    other = ISV.auth_app_ids[1]
    body = TEA | {"product": "page", "currency": "CNY", "register": True, "extra": {"app_auth_token": "T"}}
    async with serving(world) as client:
        for query, named in ((f"?auth_app_id={other}", {}), ("", {"auth_app_id": other})):
            answer = await client.post(f"/api/requests/isv{query}", json=body | named)
            assert answer.status == 200
        assert (await client.get(f"/api/orders/isv/A1?auth_app_id={other}")).status == 200
        assert (await client.get("/api/orders/isv/A1")).status == 404
        differing = await client.post(f"/api/requests/isv?auth_app_id={other}", json=body | {"auth_app_id": "2021"})
        assert (differing.status, "differ" in (await differing.json())["detail"]) == (400, True)
    assert [asked.auth_app_id for asked in world.asked] == [other] * 2
