"""News under an algorithm that the account has given up, through the real engine."""

import http.client
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import alipay
from tests.support.alipay import Signer
from tests.support.processes import Engine, eventually

APP, SELLER = "2021000000000001", "2088101122136241"
NEW, OLD = alipay.rsa_key("new"), alipay.rsa_key("old", bits=1024)
OPENAPI = f'family = "openapi"\napp_id = "{APP}"'
MAPI = f'family = "mapi"\nseller_id = "{SELLER}"'
ALGORITHMS: dict[str, tuple[str, Signer]] = {
    "rsa": ("RSA", OLD),
    "md5": ("MD5", alipay.MD5_SECRET),
    "dsa": ("DSA", alipay.dsa_key()),
    "ended": ("RSA", OLD),
    "ending": ("RSA", OLD),
}


def account(name: str, until: str) -> str:
    sign_type, key = ALGORITHMS[name]
    files = 'md5_key_file = "md5.txt"' if isinstance(key, bytes) else f'keys = ["{sign_type.lower()}.pem"]'
    orders = "registered" if name == "ending" else "any"
    family = MAPI if name in ("md5", "dsa") else OPENAPI
    return f"""
[accounts.{name}]
{family}
sign_type = "RSA2"
keys = ["new.pem"]
orders = "{orders}"
[[accounts.{name}.retiring]]
sign_type = "{sign_type}"
{files}
until = {until}
"""


def configuration(ending: str = "2099-12-31") -> str:
    ends = {"ended": "2026-01-01", "ending": ending}
    return "".join(account(name, ends.get(name, "2099-12-31T00:00:00+08:00")) for name in ALGORITHMS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("retiring")
    alipay.written(directory, "new.pem", alipay.pem(NEW))
    alipay.written(directory, "rsa.pem", alipay.pem(OLD))
    alipay.written(directory, "dsa.pem", alipay.pem(alipay.dsa_key()))
    alipay.written(directory, "md5.txt", alipay.MD5_SECRET)
    (directory / "accounts.toml").write_text(configuration())
    return directory


@pytest.fixture(scope="module")
def engine(home: Path) -> Iterator[Engine]:
    with Engine(home / "accounts.toml", home / "data") as engine:
        yield engine


def post(engine: Engine, name: str, order: str, signer: Signer, signed_as: str, declared: str = "") -> int:
    """Send a finished trade; return the status of the answer."""
    is_mapi = name in ("md5", "dsa")
    fields: dict[str, str | bytes] = {
        "notify_type": "trade_status_sync",
        "notify_id": f"N-{order}-{signed_as}-{declared}",
        "out_trade_no": order,
        "trade_no": f"T-{order}",
        "trade_status": "TRADE_FINISHED",
        **({"seller_id": SELLER, "total_fee": "9.00"} if is_mapi else {"app_id": APP, "total_amount": "9.00"}),
    }
    signed = alipay.signed(fields, signer, signed_as)
    body = alipay.urlencoded({**signed, "sign_type": declared or signed_as})
    address = urlsplit(engine.public)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    try:
        connection.request("POST", f"/notify/{name}", body, {"Content-Type": "application/x-www-form-urlencoded"})
        return connection.getresponse().status
    finally:
        connection.close()


def is_paid(engine: Engine, name: str, order: str) -> bool:
    status, page = engine.get(f"/api/orders/{name}/{order}")
    return status == 200 and page["status"] in ("PAID", "FINISHED")


@pytest.mark.parametrize("name", ["rsa", "md5", "dsa"])
def test_trade_is_applied_under_the_old_and_the_new_algorithm(engine: Engine, name: str) -> None:
    sign_type, old = ALGORITHMS[name]
    assert post(engine, name, f"{name}-old", old, sign_type) == 200
    assert post(engine, name, f"{name}-new", NEW, "RSA2") == 200
    for order in ("old", "new"):
        eventually(lambda order=order: is_paid(engine, name, f"{name}-{order}"), within_s=30)


def test_old_algorithm_is_refused_after_its_end(engine: Engine) -> None:
    assert post(engine, "ended", "E-1", OLD, "RSA") == 401
    assert post(engine, "ended", "E-2", NEW, "RSA2") == 200


@pytest.mark.parametrize(
    ("signer", "signed_as", "declared"),
    [
        (OLD, "RSA2", "RSA2"),
        (OLD, "RSA2", "RSA"),
        (OLD, "RSA", "RSA2"),
        (NEW, "RSA", "RSA"),
        (NEW, "RSA", "RSA2"),
        (NEW, "RSA2", "RSA"),
        (OLD, "RSA", "rsa"),
        (alipay.MD5_SECRET, "MD5", "MD5"),
    ],
)
def test_no_key_verifies_another_algorithm_than_its_own(
    engine: Engine, signer: Signer, signed_as: str, declared: str
) -> None:
    assert post(engine, "rsa", "D-1", signer, signed_as, declared) == 401


def test_parked_notification_is_applied_after_the_end(engine: Engine, home: Path) -> None:
    assert post(engine, "ending", "P-1", OLD, "RSA") == 200
    eventually(lambda: engine.get("/api/held?account=ending")[1]["held"], within_s=30)
    # The end is after the receipt of this one, and before that of the next.
    end = datetime.now(UTC) + timedelta(milliseconds=1)
    (home / "next.toml").write_text(configuration(end.isoformat()))
    (home / "next.toml").rename(home / "accounts.toml")
    eventually(lambda: post(engine, "ending", "P-2", OLD, "RSA") == 401, within_s=30)
    assert engine.put("/api/orders/ending/P-1", {"amount": "9.00"})[0] == 201
    eventually(lambda: is_paid(engine, "ending", "P-1"), within_s=30)


def test_metrics_count_the_old_key_apart_and_show_its_end(engine: Engine) -> None:
    assert post(engine, "rsa", "M-1", OLD, "RSA") == 200
    samples = engine.metrics()
    assert any("retiring_key_until" in name and 'key_id="rsa.pem"' in name for name in samples)
    counted = [
        value
        for name, value in samples.items()
        if name.startswith("alipay_notify_key_verifications_total")
        and 'account="rsa"' in name
        and 'key_id="rsa.pem"' in name
    ]
    assert counted[0] >= 1
