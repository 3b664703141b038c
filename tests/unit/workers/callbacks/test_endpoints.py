"""Endpoints as callbacks.toml has them."""

import base64
from typing import Any

import pytest

from schemas import topics
from schemas.events import Outgoing
from schemas.times import HOUR_MS
from workers.callbacks import endpoints
from workers.callbacks.endpoints import BadCallbacks, Endpoint

SECRET = "whsec_" + base64.b64encode(b"s" * 24).decode()
USUAL: dict[str, Any] = {"url": "https://shop.example/callbacks", "secret_files": ["a.secret"]}


def parse(**tables: Any) -> dict[str, Endpoint]:
    return endpoints.parse({"callbacks": tables}, lambda file: endpoints.secret(SECRET))


def faults(**settings: Any) -> list[str]:
    with pytest.raises(BadCallbacks) as caught:
        parse(shop=USUAL | settings)
    return caught.value.faults


def event(type_: str = "order.paid", scope: str = "main", topic: str = topics.ORDER_EVENT) -> Outgoing:
    headers = (("ce_type", f"alipay_notify.{type_}.v1".encode()),)
    return Outgoing(id="x", topic=topic, key=f"{scope}:N1".encode(), value=b"{}", headers=headers)


def test_file_gives_endpoints_by_name() -> None:
    shop = parse(shop=USUAL | {"types": ["order.paid"], "timeout_s": 5, "disable_after_hours": 24})["shop"]
    assert (shop.url, shop.timeout_s, shop.disable_after_ms) == (USUAL["url"], 5.0, 24 * HOUR_MS)
    assert shop.secrets == (b"s" * 24,)
    assert "secret" not in repr(shop)
    assert endpoints.parse({}, endpoints.secret) == {}


def test_filters_choose_order_events_by_type_and_account() -> None:
    (every,) = parse(shop=USUAL).values()
    assert every.wants(event())
    assert not every.wants(event(topic=topics.HELD))
    (some,) = parse(shop=USUAL | {"types": ["order.paid"], "accounts": ["main"]}).values()
    assert some.wants(event())
    assert some.wants(event(scope="main/2021000000000001"))
    assert not some.wants(event("order.closed"))
    assert not some.wants(event(scope="other"))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"url": "ftp://shop.example"}, "url must be http or https"),
        ({"url": "https://"}, "url must be http or https"),
        ({"url": "https://shop.example:0/"}, "url must be http or https"),
        ({"url": "https://shop.example:x/"}, "url must be http or https"),
        ({"url": "https://[::1"}, "url must be http or https"),
        ({"url": "https://u:p@shop.example/"}, "no user"),
        ({"url": "https://shop.example/#x"}, "no user, password or fragment"),
        ({"url": "https://shop.example/\r\nHost: x"}, "url must be a text"),
        ({"url": 7}, "url must be a text"),
        ({"url": "https://shop.example/" + "x" * 2000}, "2000 characters"),
        ({"secret_files": []}, "secret_files must be a list of 1 to 4 files"),
        ({"secret_files": "a.secret"}, "secret_files must be a list of 1 to 4 files"),
        ({"types": ["order.payd"]}, "unknown types order.payd"),
        ({"types": "order.paid"}, "types must be a list"),
        ({"accounts": [1]}, "accounts must be a list"),
        ({"timeout_s": 0}, "timeout_s must be a number from 1 to 30"),
        ({"timeout_s": True}, "timeout_s must be a number from 1 to 30"),
        ({"timeout_s": float("nan")}, "timeout_s must be a number from 1 to 30"),
        ({"disable_after_hours": 1000}, "disable_after_hours must be a number from 1 to 96"),
        ({"typos": 1}, "unknown setting typos"),
    ],
)
def test_fault_is_named_with_its_endpoint(settings: dict[str, Any], fault: str) -> None:
    (found,) = faults(**settings)
    assert found.startswith("callback shop: ")
    assert fault in found


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(BadCallbacks) as caught:
        endpoints.parse({"callbacks": {"Shop": USUAL, "b": 1}, "other": {}}, lambda file: b"")
    assert len(caught.value.faults) == 3
    with pytest.raises(BadCallbacks, match="64 are possible"):
        parse(**{f"e{number}": USUAL for number in range(65)})
    with pytest.raises(BadCallbacks, match="must be tables"):
        endpoints.parse({"callbacks": 1}, endpoints.secret)


@pytest.mark.parametrize("text", ["", "abc", "whsec_", "whsec_!!", "whsec_c2hvcnQ=", f"whsec_{'A' * 200}"])
def test_secret_of_another_form_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        endpoints.secret(text)
    assert len(text) < 10 or text not in str(caught.value)
