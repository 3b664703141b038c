"""Rows P: records in the log that no receiver wrote, or wrote otherwise, and what the whole engine makes of them.

All of them stand in one journal, each before a payment of another order that has to be applied.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from deploy.embedded import directory
from schemas import record_format
from schemas.record_format import VERSION, Header, Record, RecordContents
from tests.bad_input import merchant
from tests.bad_input.merchant import Signer, encode
from tests.support import alipay
from tests.support.processes import Engine, eventually

ACCOUNT = "shop-cn"
ADVICE = [name for name in Header if name not in (Header.VERSION, Header.ACCOUNT, Header.FAMILY, Header.TRACEPARENT)]
SIGNING = (Header.CLIENT_ID, Header.REQUEST_TIME, Header.SIGNATURE)


def received(body: bytes, *, account: str = ACCOUNT, family: str = "openapi", order: str = "P") -> Record:
    """Return the record that a receiver writes of this body."""
    contents = RecordContents(
        account=account,
        family=family,
        received_at_ms=int(time.time() * 1000),
        path=f"/notify/{account}".encode(),
        content_type=b"application/x-www-form-urlencoded",
        key_id="cn.pem",
        confirmed=False,
        body=body,
    )
    return record_format.encode(contents, order)


def message(signer: Signer, order: str) -> Record:
    """Return the record of an Antom payment."""
    body = merchant.antom_payment(order)
    given = signer.antom(body)
    contents = RecordContents(
        account="antom-hk",
        family="antom",
        received_at_ms=int(time.time() * 1000),
        path=b"/notify/antom-hk",
        content_type=b"application/json",
        key_id="1",
        confirmed=False,
        body=body,
        client_id=given["client-id"].encode(),
        request_time=given["request-time"].encode(),
        signature=alipay.antom_header(given["signature"]).encode(),
    )
    return record_format.encode(contents, order)


def headed(record: Record, name: str, *values: bytes) -> Record:
    """Return the record with exactly these values of one header."""
    others = tuple(pair for pair in record.headers if pair[0] != name)
    return Record(record.key, record.value, (*others, *((name, value) for value in values)))


def paid(signer: Signer, order: str) -> Record:
    return received(encode(signer.cn(merchant.payment(out_trade_no=order))), order=order)


Build = Callable[[Signer, str], Record]
DEAD: dict[str, Build] = {
    "P01": lambda signer, order: received(b"\x00\xff no form"),
    "P01-empty": lambda signer, order: received(b""),
    "P02": lambda signer, order: received(encode(signer.cn(merchant.payment(out_trade_no=order)))[:-20] + b"%4"),
    "P02-between": lambda signer, order: received(encode(signer.cn(merchant.payment(out_trade_no=order)))[:200]),
    "P06-version": lambda signer, order: headed(paid(signer, order), Header.VERSION),
    "P06-account": lambda signer, order: headed(paid(signer, order), Header.ACCOUNT),
    "P06-family": lambda signer, order: headed(paid(signer, order), Header.FAMILY),
    "P06-version-twice": lambda signer, order: headed(paid(signer, order), Header.VERSION, b"1", b"1"),
    "P06-version-word": lambda signer, order: headed(paid(signer, order), Header.VERSION, b"one"),
    "P06-account-bytes": lambda signer, order: headed(paid(signer, order), Header.ACCOUNT, b"\xff"),
    "P06-family-unknown": lambda signer, order: headed(paid(signer, order), Header.FAMILY, b"paypal"),
    **{f"P06-{name}": lambda signer, order, name=name: headed(message(signer, order), name) for name in SIGNING},  # type: ignore[misc]
    "P08": lambda signer, order: Record(b"k", b"v" * 1_048_576, tuple((f"h{n}", b"x" * 5000) for n in range(100))),
    "P14": lambda signer, order: received(encode(merchant.payment(out_trade_no=order))),
    "P14-forged": lambda signer, order: received(
        encode(signer.cn(merchant.payment(out_trade_no=order), key=signer.keys.stranger))
    ),
}
APPLIED: dict[str, Build] = {
    "P05": paid,
    "P07": lambda signer, order: Record(b"shop-cn:another", paid(signer, order).value, paid(signer, order).headers),
    **{f"P06-{name}-none": lambda signer, order, name=name: headed(paid(signer, order), name) for name in ADVICE},  # type: ignore[misc]
    **{
        f"P06-{name}-twice": lambda signer, order, name=name: headed(paid(signer, order), name, b"1", b"2")  # type: ignore[misc]
        for name in ADVICE
    },
    **{
        f"P06-{name}-odd": lambda signer, order, name=name: headed(paid(signer, order), name, b"\xff\x00")  # type: ignore[misc]
        for name in ADVICE
    },
    "P06-unknown": lambda signer, order: headed(paid(signer, order), "x-of-next-year", b"1"),
    "H24-1970": lambda signer, order: headed(paid(signer, order), Header.RECEIVED_AT, b"0"),
    "H24-2100": lambda signer, order: headed(paid(signer, order), Header.RECEIVED_AT, b"4102444800000"),
    "H24-word": lambda signer, order: headed(paid(signer, order), Header.RECEIVED_AT, b"yesterday"),
}
# Authentic, and told to wait or to be looked at.
OTHERS: dict[str, tuple[Build, tuple[str, str]]] = {
    "P04": (
        lambda signer, order: headed(paid(signer, order), Header.VERSION, b"%d" % (VERSION + 1)),
        ("parked", "newer_envelope"),
    ),
    "B1": (
        lambda signer, order: headed(paid(signer, order), Header.ACCOUNT, b"shop-of-next-week"),
        ("parked", "unknown_account"),
    ),
    "P14-other-merchant": (  # its settings may have changed, and not be here yet
        lambda signer, order: received(
            encode(signer.cn(merchant.payment(out_trade_no=order, app_id="2021000000000001")))
        ),
        ("parked", "unverified"),
    ),
    "P09": (
        lambda signer, order: received(encode(signer.cn(merchant.payment(out_trade_no=f"{order}\x00")))),
        ("quarantined", "control_char"),
    ),
}


class Log(NamedTuple):
    """The engine, the records by name, their places in the journal, and their orders."""

    engine: Engine
    records: Mapping[str, Record]
    places: Mapping[str, int]
    orders: Mapping[str, str]

    def held(self, name: str) -> dict[str, Any]:
        status, page = self.engine.get(f"/api/held/0-{self.places[name]}")
        assert status == 200, name
        status, bytes_ = self.engine.post(f"/api/notifications/0-{self.places[name]}/reveal", {"reason": "a test"})
        assert (status, bytes_["masked"]) == (200, False), name
        found: dict[str, Any] = page | bytes_
        return found


@pytest.fixture(scope="module")
def log(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    home: Path = tmp_path_factory.mktemp("poison")
    accounts = merchant.write_accounts(home, signer.keys)
    builders = DEAD | APPLIED | {name: build for name, (build, _) in OTHERS.items()}
    orders = {name: merchant.fresh("P-") for name in builders}
    records = {name: build(signer, orders[name]) for name, build in builders.items()}
    places: dict[str, int] = {}

    async def append() -> None:
        async with directory.open_files(home / "data", now_ms=lambda: int(time.time() * 1000)) as files:
            for name, record in records.items():
                await files.journal.append(record)
                places[name] = files.journal.last
                await files.journal.append(paid(signer, f"neighbour-{orders[name]}"))

    (home / "data").mkdir(mode=0o700)
    asyncio.run(append())
    with Engine(accounts, home / "data") as engine:
        eventually(lambda: processed(engine) >= 2 * len(records), within_s=30)
        yield Log(engine, records, places, orders)


def processed(engine: Engine) -> float:
    return sum(value for name, value in engine.metrics().items() if name.startswith("alipay_notify_processed_total"))


def test_no_record_stops_the_worker_or_its_neighbours(log: Log) -> None:
    assert log.engine.get("/readyz?verbose")[1]["ok"]
    for order in log.orders.values():
        status, page = log.engine.get(f"/api/orders/{ACCOUNT}/neighbour-{order}")
        assert (status, page.get("status"), page.get("version")) == (200, "PAID", 1)


@pytest.mark.parametrize("name", DEAD)
def test_record_that_is_no_notification_is_dead_with_its_bytes(log: Log, name: str) -> None:
    page = log.held(name)
    assert (page["disposition"], page["attempts"]) == ("dead", 0)
    assert base64.b64decode(page["body_base64"]) == log.records[name].value
    assert len(page["headers"]) <= 64
    for account in (ACCOUNT, "antom-hk"):
        assert log.engine.get(f"/api/orders/{account}/{log.orders[name]}")[1].get("status") is None


@pytest.mark.parametrize("name", APPLIED)
def test_record_is_applied_once_whatever_its_advice(log: Log, name: str) -> None:
    page = log.engine.get(f"/api/orders/{ACCOUNT}/{log.orders[name]}")[1]
    (entry,) = [each for each in page["timeline"] if each["kind"] == "notification"]
    assert (page["status"], page["version"], entry["disposition"]) == ("PAID", 1, "applied")
    assert "2020" < entry["received_at"] < "2100"


@pytest.mark.parametrize("name", OTHERS)
def test_record_waits_or_is_held_with_its_bytes(log: Log, name: str) -> None:
    page = log.held(name)
    assert (page["disposition"], page["reason"]) == OTHERS[name][1]
    assert base64.b64decode(page["body_base64"]) == log.records[name].value
    assert log.engine.get(f"/api/orders/{ACCOUNT}/{log.orders[name]}")[1].get("status") is None
