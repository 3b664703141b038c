"""The gateway refuses Requests that are invalid or not signed by the merchant."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from deploy.sandbox import gateway, identities, signing
from deploy.sandbox.world import World
from tests.unit.deploy.sandbox.town import Town, signed_request


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"partner": "2088000000000000"}, "ILLEGAL_PARTNER"),
        ({"total_fee": "1"}, "ILLEGAL_ARGUMENT"),
        ({"total_fee": "0.00"}, "ILLEGAL_ARGUMENT"),
        ({"total_fee": "-1.00"}, "ILLEGAL_ARGUMENT"),
        ({"return_url": "javascript:alert(1)"}, "ILLEGAL_ARGUMENT"),
        ({"notify_url": "http://h/notify?id=1"}, "ILLEGAL_ARGUMENT"),
        ({"service": "no_such_service"}, "ILLEGAL_SERVICE"),
        ({"_input_charset": "rot13"}, "ILLEGAL_CHARSET"),
    ],
)
async def test_invalid_request_is_refused_with_alipays_error_code(
    town: Town, changes: dict[str, str], code: str
) -> None:
    url = signed_request(town)
    if changes.get("_input_charset") == "rot13":
        url = url.replace("_input_charset=utf-8", "_input_charset=rot13")
    else:
        url = signed_request(town, **changes)
    await town.buyer.go(url)
    assert town.buyer.status == 400
    assert code in town.buyer.page


async def test_request_changed_after_signing_is_refused_with_the_checked_text(town: Town) -> None:
    await town.buyer.go(signed_request(town).replace("total_fee=1.00", "total_fee=0.01"))
    assert "ILLEGAL_SIGN" in town.buyer.page
    assert "total_fee=0.01" in town.buyer.page


async def test_repeated_parameter_is_refused(town: Town) -> None:
    await town.buyer.go(signed_request(town) + "&total_fee=0.01")
    assert "ILLEGAL_ARGUMENT" in town.buyer.page


@pytest.mark.parametrize(
    ("rmb", "currency", "settled"),
    [
        ("80.00", "USD", "10.00"),
        ("80.00", "JPY", "10"),
        ("80.00", "KWD", "10.000"),
        ("0.12", "USD", "0.02"),  # 0.015 is rounded up
        ("0.11", "USD", "0.01"),
    ],
)
async def test_price_in_rmb_is_settled_at_eight_to_one(town: Town, rmb: str, currency: str, settled: str) -> None:
    await town.buyer.go(signed_request(town, total_fee="", rmb_fee=rmb, currency=currency))
    assert (town.buyer.status, f"</small>{settled}</h1>" in town.buyer.page) == (200, True), town.buyer.page
    assert f"CNY {rmb}" in town.buyer.page


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"total_fee": "1.00", "rmb_fee": "8.00"}, "not both"),
        ({"total_fee": "", "rmb_fee": "8"}, "rmb_fee"),
        ({"total_fee": "", "rmb_fee": "0.01"}, "smallest sum"),
        ({"total_fee": "", "rmb_fee": "8.00", "currency": ""}, "currency is missing"),
        ({"total_fee": ""}, "total_fee is missing"),
    ],
)
async def test_price_that_alipay_would_not_take_is_refused(town: Town, changes: dict[str, str], hint: str) -> None:
    await town.buyer.go(signed_request(town, **changes))
    assert (town.buyer.status, hint in town.buyer.page) == (400, True), town.buyer.page


async def test_same_order_in_another_price_in_rmb_is_refused(town: Town) -> None:
    await town.buyer.go(signed_request(town, total_fee="", rmb_fee="8.00"))
    await town.buyer.go(signed_request(town, total_fee="1.00"))
    assert "CONTEXT_INCONSISTENT" in town.buyer.page


def open_request(world: World, name: str, **more: str) -> dict[str, str]:
    """Return the parameters of an Open Platform's Request, signed by this account's merchant."""
    identity = world.account(name).identity
    params = {
        "app_id": identity.app_id, "method": "alipay.trade.app.pay", "charset": "utf-8", "sign_type": "RSA2",
        "notify_url": "http://h/notify", "biz_content": '{"out_trade_no":"1","total_amount":"1.00","subject":"S"}',
        **more,
    }  # fmt: skip
    key = load_pem_private_key((world.accounts_file.parent / "keys" / f"{name}.key").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    text = signing.canonical(params.items(), charset="utf-8", left_out=())
    return params | {"sign": signing.Signer.of("RSA2", key).sign(text)}


def refusal(world: World, name: str, **more: str) -> str:
    try:
        gateway.verified(open_request(world, name, **more), world)
    except gateway.RefusedRequestError as refused:
        return refused.code
    return ""


def test_request_in_certificate_mode_names_its_certificates(world: World) -> None:
    own, root = world.certificate_numbers["demo-cert"]
    assert refusal(world, "demo-cert", app_cert_sn=own, alipay_root_cert_sn=root) == ""
    assert refusal(world, "demo-cert") == "INVALID_CERTIFICATE"
    assert refusal(world, "demo-cert", app_cert_sn=root, alipay_root_cert_sn=own) == "INVALID_CERTIFICATE"
    assert refusal(world, "demo-cn") == ""


def test_request_of_a_service_provider_is_for_the_merchant_of_its_token(world: World) -> None:
    second = world.account("demo-isv").identity.merchants[1]
    request = gateway.verified(open_request(world, "demo-isv", app_auth_token=identities.auth_token(second)), world)
    assert request.account.identity.auth_app_id == second
    for wrong in ({}, {"app_auth_token": "made-up"}):
        assert refusal(world, "demo-isv", **wrong) == "INVALID_APP_AUTH_TOKEN"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('partner="2088999900001017"&service="mobile.securitypay.pay"&_input_charset="x"&sign="y"', "ILLEGAL_CHARSET"),
        ('partner="2088999900001017"&service="mobile.securitypay.pay"&a="\ud800"&sign="y"', "ILLEGAL_ARGUMENT"),
        ("method=alipay.trade.app.pay&app_id=2021999900001041&_input_charset=utf-8&charset=x", "ILLEGAL_CHARSET"),
        (
            "method=alipay.trade.app.pay&app_id=2021999900001041&_input_charset=utf-8&charset=gbk&a=%F0%9F%98%80",
            "ILLEGAL_ARGUMENT",
        ),
    ],
)
def test_text_that_its_charset_cannot_encode_is_refused(world: World, text: str, code: str) -> None:
    with pytest.raises(gateway.RefusedRequestError, match=code):
        gateway.opened_by_app(text, world)


@pytest.mark.parametrize(
    "text", ["", "nonsense", 'a="1"', 'a="1"&sign="x', 'a=1&sign="x"', 'a="1"&a="2"&sign="x"', "method=other&app_id=1"]
)
def test_text_that_is_no_order_string_is_refused(world: World, text: str) -> None:
    with pytest.raises(gateway.RefusedRequestError, match=r"ILLEGAL_(ARGUMENT|SERVICE)"):
        gateway.opened_by_app(text, world)
