"""Service providers, through the real engine: one application and one address for many merchants."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_real_inputs import KEY, Merchant
from tests.support import alipay
from tests.support.processes import Engine, eventually

APP, ONE, OTHER = "2021000000000001", "2021000000000008", "2021000000000009"
ACCOUNTS = f"""
[accounts.isv]
family = "openapi"
sign_type = "RSA2"
keys = ["{KEY}"]
app_id = "{APP}"
auth_app_id = "any"

[accounts.listed]
family = "openapi"
sign_type = "RSA2"
keys = ["{KEY}"]
app_id = "{APP}"
auth_app_id = ["{ONE}", "{OTHER}"]
first_auth_app_id = "{ONE}"
orders = "registered"
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Merchant]:
    directory: Path = tmp_path_factory.mktemp("provider")
    (directory / "keys").mkdir()
    (directory / KEY).write_bytes(alipay.pem(alipay.rsa_key()))
    (directory / "accounts.toml").write_text(ACCOUNTS)
    with Engine(directory / "accounts.toml", directory / "data") as engine:
        yield Merchant(engine)


def send(provider: Merchant, account: str, order: str, id_: str, *, amount: str = "12.80", **more: str) -> bytes:
    fields = {
        "notify_type": "trade_status_sync",
        "notify_id": id_,
        "notify_time": "2026-11-30 08:00:00",
        "app_id": APP,
        "out_trade_no": order,
        "trade_no": f"T-{id_}",
        "trade_status": "TRADE_SUCCESS",
        "total_amount": amount,
        **more,
    }
    return provider.post_form(account, alipay.form(fields, alipay.rsa_key(), "RSA2"))


def shown(provider: Merchant, path: str) -> dict[str, Any]:
    def answer() -> dict[str, Any] | None:
        status, order = provider.engine.get(f"/api/orders/{path}")
        return order if status == 200 and order["status"] == "PAID" else None

    found: dict[str, Any] = eventually(answer)
    return found


def text_of(provider: Merchant, path: str) -> str:
    with urllib.request.urlopen(provider.engine.admin + path, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_equal_order_numbers_of_two_merchants_stay_two_orders(provider: Merchant) -> None:
    assert send(provider, "isv", "8", "a", amount="8.00", auth_app_id=ONE) == b"success"
    assert send(provider, "isv", "8", "b", amount="9.00", auth_app_id=OTHER) == b"success"
    for merchant, amount in ((ONE, "8.00"), (OTHER, "9.00")):
        order = shown(provider, f"isv/8?auth_app_id={merchant}")
        assert (order["account"], order["auth_app_id"], order["amount"]) == ("isv", merchant, amount)
        event = order["timeline"][-1]
        assert event["id"] == f"isv/{merchant}:8:1"
    matches = provider.engine.get("/api/find?number=8")[1]["matches"]
    assert matches == [{"account": "isv", "auth_app_id": each, "order": "8"} for each in (ONE, OTHER)]
    events = [each["data"] for each in provider.engine.get("/api/events")[1]["events"] if each["data"]["order"] == "8"]
    assert {(each["account"], each["auth_app_id"]) for each in events} == {("isv", ONE), ("isv", OTHER)}


def test_request_without_a_merchant_is_refused_with_advice(provider: Merchant) -> None:
    status, answer = provider.engine.get("/api/orders/isv/8")
    assert (status, answer["error"]) == (400, "bad_request")
    assert "auth_app_id" in answer["detail"]


def test_trade_without_auth_app_id_is_the_provider_s_own(provider: Merchant) -> None:
    assert send(provider, "isv", "own", "c") == b"success"
    assert shown(provider, f"isv/own?auth_app_id={APP}")["auth_app_id"] == APP


def test_registered_merchants_and_the_first_one_keep_their_orders_apart(provider: Merchant) -> None:
    for merchant, amount in ((ONE, "1.00"), (OTHER, "2.00")):
        path = f"/api/orders/listed/R?auth_app_id={merchant}"
        assert provider.engine.put(path, {"amount": amount})[0] == 201
        assert send(provider, "listed", "R", f"r-{merchant}", amount=amount, auth_app_id=merchant) == b"success"
    first = shown(provider, "listed/R")
    assert ("auth_app_id" in first, first["amount"]) == (False, "1.00")
    assert first == shown(provider, f"listed/R?auth_app_id={ONE}")
    assert shown(provider, f"listed/R?auth_app_id={OTHER}")["amount"] == "2.00"
    assert provider.engine.put("/api/orders/listed/R?auth_app_id=2021", {"amount": "1.00"})[0] == 400


def test_another_merchant_or_application_is_refused(provider: Merchant) -> None:
    assert send(provider, "listed", "X", "x", auth_app_id="2021000000000007") == b"fail"
    assert send(provider, "listed", "X", "y") == b"fail"
    assert send(provider, "isv", "X", "z", auth_app_id=ONE, app_id="2021000000000002") == b"fail"


def test_authorisation_of_an_application_is_noted(provider: Merchant) -> None:
    fields = {"notify_type": "open_app_auth_notify", "notify_id": "auth-1", "app_id": APP, "biz_content": "{}"}
    body = alipay.form(fields, alipay.rsa_key(), "RSA2")
    assert provider.post_form("listed", body) == b"success"
    found = eventually(lambda: provider.engine.get("/api/find?number=auth-1")[1]["notifications"])
    assert [(each["account"], each["auth_app_id"], each["reason"]) for each in found] == [("listed", APP, "noted")]


def test_merchant_that_is_no_application_s_number_is_held(provider: Merchant) -> None:
    assert send(provider, "isv", "odd", "odd", auth_app_id="20/21") == b"success"
    held = eventually(lambda: provider.held("missing_field"))
    assert [(each["account"], each["order"]) for each in held] == [("isv", "")]


def test_console_leads_to_the_order_of_the_merchant(provider: Merchant) -> None:
    page = text_of(provider, f"/orders/isv/8?auth_app_id={ONE}")
    assert f"merchant {ONE}" in page
    assert f"/orders/isv/8?auth_app_id={OTHER}" in text_of(provider, "/")
