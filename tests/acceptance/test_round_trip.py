"""Request, cashier, Return, notification: for each product, algorithm and kind of key, through a real engine.

The program signs the Request, the simulated Alipay checks it, the buyer pays, and the program checks what comes back
and applies what Alipay reports. Requests are signed by the command line and by the admin API.
"""

import html
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlencode, urlsplit
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

from deploy.cli import main
from deploy.sandbox import identities
from deploy.sandbox.identities import IDENTITIES, Identity
from deploy.sandbox.world import World
from schemas.accounts import Family
from schemas.payment_request import PRODUCTS, Product
from tests.acceptance import town
from tests.support.processes import Engine, eventually

TOKEN = "round-trip-token-0123456789abcdef"
SUBJECT = "Museum pass 茶 & +%"
# What the sandbox's own accounts lack of the table: products × algorithms × keys or certificates.
MORE = (
    Identity(name="web-rsa2", product="website", sign_type="RSA2", key="mapi-rsa2", currency="EUR",
             partner="2088999900002017", notify_verify=True),
    Identity(name="web-md5", product="website", sign_type="MD5", key="web-md5", currency="JPY", charset="gbk",
             partner="2088999900002025", notify_verify=True, registered=True),
    Identity(name="app-rsa2", product="in-app", sign_type="RSA2", key="mapi-rsa2", currency="CNY", charset="gbk",
             seller_id="2088999900002033", partner="2088999900002033"),
    Identity(name="open-rsa", product="open", sign_type="RSA", key="openapi-rsa", currency="CNY", charset="gbk",
             app_id="2021999900002041", seller_id="2088999900002041"),
    Identity(name="cert-rsa", product="open", sign_type="RSA", key="openapi-rsa", currency="CNY",
             app_id="2021999900002058", seller_id="2088999900002058", is_certified=True, registered=True),
)  # fmt: skip
ALL = {one.name: one for one in (*IDENTITIES, *MORE)}
SIGNING = [one for one in ALL.values() if one.signs_requests]
TABLE = [
    (one, product)
    for one in SIGNING
    for product in PRODUCTS[Family(one.family)]
    if not (product is Product.NATIVE and one.sign_type == "MD5")  # an app's Request cannot be signed with MD5
]
IN_RMB = [(one, product) for one, product in TABLE if one.family == "mapi"]


def named(value: Identity | Product) -> str:
    return f"{value.name}-{value.sign_type}" if isinstance(value, Identity) else str(value)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, World]]:
    home: Path = tmp_path_factory.mktemp("round")
    (home / "token").write_text(TOKEN)
    (home / "token").chmod(0o600)
    with town.running(home, list(ALL.values()), ALIPAY_NOTIFY_ADMIN_TOKEN_FILE=str(home / "token")) as found:
        yield found


def called(engine: Engine, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(
        engine.admin + path,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
    )
    try:
        with urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def visited(url: str, **form: str) -> tuple[str, str]:
    """Return where a browser ends, and the page; a shop that does not exist answers too."""
    try:
        with urlopen(url, urlencode(form).encode() if form else None, timeout=30) as answer:
            return answer.url, answer.read().decode()
    except HTTPError as error:
        return str(error.url), error.read().decode()


class Payment:
    """One payment of the table: its Request, and what has to become of it."""

    def __init__(
        self, both: tuple[Engine, World], one: Identity, product: str, order: str, *, rmb: bool = False
    ) -> None:
        self.engine, self.world = both
        self.token = str(self.world.directory.parent / "token")
        self.one, self.product, self.order = one, product, order
        self.amount = "10" if one.currency == "JPY" else "10.00"
        self.currency = "USD" if rmb and one.currency == "CNY" else one.currency
        self.rmb = "80.00" if rmb else ""
        self.merchant = one.merchants[-1] if one.merchants else ""
        self.of_merchant = f"?auth_app_id={self.merchant}" if self.merchant else ""
        self.shop = urlsplit(self.world.gateway_url)._replace(path="/no/shop").geturl()
        self.extra = {"app_auth_token": identities.auth_token(self.merchant)} if self.merchant else {}

    def signed_by_command(self) -> dict[str, Any]:
        command = ["request", self.product, "--account", self.one.name, "--order", self.order, "--subject", SUBJECT]
        command += ["--amount", self.amount, "--currency", self.currency, "--return-url", self.shop, "--register"]
        command += ["--accounts", str(self.world.accounts_file), "--admin", self.engine.admin, "--output", "json"]
        command += ["--rmb", self.rmb] if self.rmb else []
        command += ["--auth-app-id", self.merchant] if self.merchant else []
        command += [f"--extra={name}={value}" for name, value in self.extra.items()]
        done = CliRunner().invoke(main.application(), command, env={"ALIPAY_NOTIFY_ADMIN_TOKEN_FILE": self.token})
        assert done.exit_code == 0, done.output
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def signed_by_api(self) -> dict[str, Any]:
        body = {
            "product": self.product, "order": self.order, "subject": SUBJECT, "amount": self.amount,
            "currency": self.currency, "rmb": self.rmb, "return_url": self.shop, "extra": self.extra, "register": True,
        }  # fmt: skip

        def answered() -> dict[str, Any] | None:
            status, answer = called(self.engine, "POST", f"/api/requests/{self.one.name}{self.of_merchant}", body)
            assert status == 200, answer
            # The engine's own address is in its accounts file once that is reloaded.
            text = unquote(answer["url"] or answer["order_string"])
            return answer if self.engine.public in text else None

        found: dict[str, Any] = eventually(answered)
        return found

    def pay(self, request: dict[str, Any]) -> None:
        """Open the cashier, pay, and check the Return and the order."""
        by_app = self.product in ("native", "app")
        if by_app:
            cashier, page = visited(f"{self.world.gateway_url}/app", order_string=request["order_string"])
        else:
            cashier, page = visited(request["url"])
        assert self.order in page, page
        assert self.amount in page
        assert not self.rmb or f"CNY {self.rmb}" in page
        back, page = visited(f"{cashier}/end", ending="notified_first")
        if by_app:
            found = re.search(r'<pre class="text" id="result">(.*?)</pre>', page, re.DOTALL)
            assert found is not None, page
            returned = {"result": html.unescape(found[1])}
        else:
            assert back.startswith(self.shop), page
            returned = {"query": urlsplit(back).query}
        status, answer = called(self.engine, "POST", f"/api/returns/{self.one.name}{self.of_merchant}", returned)
        assert (status, answer["authentic"], answer["claims"]["out_trade_no"]) == (200, True, self.order), answer
        assert answer["result_status"] == ("9000" if by_app else "")
        assert answer["claims"].get("auth_app_id", "") in (self.merchant, self.one.app_id)
        order = self.paid()
        assert (order["amount"], order["currency"], order["flags"]) == (self.amount, self.currency, [])

    def paid(self) -> dict[str, Any]:
        path = f"/api/orders/{self.one.name}/{quote(self.order)}{self.of_merchant}"

        def page() -> dict[str, Any] | None:
            status, answer = called(self.engine, "GET", path)
            return answer if status == 200 and answer["status"] in ("PAID", "FINISHED") else None

        found: dict[str, Any] = eventually(page)
        return found


@pytest.mark.parametrize(("one", "product"), TABLE, ids=named)
def test_request_of_the_command_is_paid_and_all_that_comes_back_is_believed(
    both: tuple[Engine, World], one: Identity, product: str
) -> None:
    payment = Payment(both, one, product, f"C-{one.name}-{product}")
    payment.pay(payment.signed_by_command())


@pytest.mark.parametrize(("one", "product"), TABLE, ids=named)
def test_request_of_the_api_is_paid_and_all_that_comes_back_is_believed(
    both: tuple[Engine, World], one: Identity, product: str
) -> None:
    payment = Payment(both, one, product, f"A-{one.name}-{product}")
    payment.pay(payment.signed_by_api())


@pytest.mark.parametrize(("one", "product"), IN_RMB, ids=named)
def test_price_in_rmb_is_reported_in_the_currency_of_the_settlement(
    both: tuple[Engine, World], one: Identity, product: str
) -> None:
    payment = Payment(both, one, product, f"R-{one.name}-{product}", rmb=True)
    payment.pay(payment.signed_by_command())


def test_table_has_every_product_algorithm_and_kind_of_key() -> None:
    found = {(one.family, product, one.sign_type, one.is_certified) for one, product in TABLE}
    mapi = {
        ("mapi", product, sign_type, False) for product in ("native", "h5", "page") for sign_type in ("RSA", "RSA2")
    }
    md5 = {("mapi", product, "MD5", False) for product in ("h5", "page")}
    openapi = {
        ("openapi", product, sign_type, certified)
        for product in ("page", "wap", "app")
        for sign_type in ("RSA", "RSA2")
        for certified in (False, True)
    }
    assert found == mapi | md5 | openapi


def test_request_that_was_changed_is_refused_by_the_gateway(both: tuple[Engine, World]) -> None:
    url = Payment(both, ALL["demo-cn"], "wap", "X-wap").signed_by_command()["url"]
    assert "ILLEGAL_SIGN" in visited(url.replace("10.00", "0.80"))[1]
    _, world = both
    for name, product in (("demo-app", "native"), ("demo-cert", "app")):
        text = Payment(both, ALL[name], product, f"X-{product}").signed_by_command()["order_string"]
        for changed in (text.replace("10.00", "0.80"), "nonsense", text.partition("&sign=")[0]):
            page = visited(f"{world.gateway_url}/app", order_string=changed)[1]
            assert "ILLEGAL_" in page, page


def test_one_order_number_of_two_merchants_is_two_payments(both: tuple[Engine, World]) -> None:
    one = ALL["demo-isv"]
    cashiers = set()
    for merchant in one.merchants:
        payment = Payment(both, one, "page", "SAME")
        payment.merchant, payment.of_merchant = merchant, f"?auth_app_id={merchant}"
        payment.extra = {"app_auth_token": identities.auth_token(merchant)}
        request = payment.signed_by_command()
        cashiers.add(visited(request["url"])[0])
        payment.pay(request)
        assert payment.paid()["auth_app_id"] == merchant
    assert len(cashiers) == 2


def test_cancelled_payment_of_an_app_returns_nothing_signed(both: tuple[Engine, World]) -> None:
    payment = Payment(both, ALL["demo-cn"], "app", "X-cancelled")
    cashier, _ = visited(f"{payment.world.gateway_url}/app", order_string=payment.signed_by_command()["order_string"])
    _, page = visited(f"{cashier}/cancel", any="form")
    found = re.search(r'<pre class="text" id="result">(.*?)</pre>', page, re.DOTALL)
    assert found is not None, page
    answer = called(payment.engine, "POST", "/api/returns/demo-cn", {"result": html.unescape(found[1])})[1]
    assert (answer["authentic"], answer["claims"], answer["result_status"]) == (False, {}, "6001"), answer
    assert "without a result" in answer["reason"]
