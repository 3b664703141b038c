"""The gateway refuses Requests that are invalid or not signed by the merchant."""

from __future__ import annotations

import pytest

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
