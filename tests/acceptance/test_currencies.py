"""Each currency of ISO 4217 at each family, through the real engine: registered, paid, and shown with its decimals.

The decimals are those of the package `iso4217`, and of the lists in Alipay's documents, not of our own table.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import iso4217
import pytest

from schemas import accounts, accounts_toml
from tests.acceptance.test_real_inputs import APP, CLIENT, SELLER, Merchant, prepare
from tests.support.processes import Engine, eventually

PUBLISHED: dict[str, int | None] = {each.code: each.exponent for each in iso4217.Currency}
WITH_DECIMALS = sorted(code for code, exponent in PUBLISHED.items() if exponent is not None)
WITHOUT = sorted(code for code, exponent in PUBLISHED.items() if exponent is None)  # XAU, XXX …
IN_NO_LIST = ["ABC", "ZZZ", "XBT"]

# Antom's page of currency codes, the cross-border products' currencies, and codes of real messages.
OF_ALIPAY = {
    0: "KRW JPY CLP VND",
    2: "USD PHP IDR THB HKD MYR CNY BDT PKR GBP CHF SGD SEK DKK NOK CAD AUD EUR NZD RUB MOP BRL TWD MXN PLN PEN "
    "ILS AED ZAR CZK LKR MUR COP ARS TRY SAR",
    3: "KWD BHD",
}
FAMILIES = {"mapi": "web", "openapi": "cn", "antom": "antom"}
MINOR = 128_000


def written(minor: int, decimals: int) -> str:
    """The amount as a form has it: 128000 is 1280.00 dollars, 128.000 dinars or 128000 yen."""
    digits = str(minor)
    return digits if decimals == 0 else f"{digits[:-decimals]}.{digits[-decimals:]}"


@pytest.fixture(scope="module")
def merchant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Merchant]:
    directory: Path = tmp_path_factory.mktemp("currencies")
    prepare(directory)
    with Engine(directory / "accounts.toml", directory / "data") as engine:
        yield Merchant(engine)


def pay(merchant: Merchant, family: str, order: str, currency: str, amount: str) -> None:
    """Send the notification of a payment; `amount` is as the family writes it."""
    if family == "antom":
        merchant.antom(order, currency, amount)
    elif family == "openapi":
        merchant.form("cn", order, trans_currency=currency, total_amount=amount)
    else:
        merchant.form("web", order, currency=currency, total_fee=amount)


def shown(merchant: Merchant, family: str, order: str) -> tuple[Any, ...]:
    """Return the order as it is once it has an entry."""
    page = merchant.order(FAMILIES[family], order)
    return page["status"], page["amount"], page["currency"], page["amount_minor"], page["flags"]


def test_alipay_s_currencies_have_the_published_decimals() -> None:
    for decimals, codes in OF_ALIPAY.items():
        assert {code: PUBLISHED[code] for code in codes.split()} == dict.fromkeys(codes.split(), decimals)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_currency_is_registered_and_paid(merchant: Merchant, family: str) -> None:
    for code in WITH_DECIMALS:
        amount = written(MINOR, PUBLISHED[code] or 0)
        assert merchant.register(FAMILIES[family], f"R-{code}", amount=amount, currency=code) == 201, code
        pay(merchant, family, f"R-{code}", code, str(MINOR) if family == "antom" else amount)
    expected: dict[str, tuple[Any, ...]] = {
        code: ("PAID", written(MINOR, PUBLISHED[code] or 0), code, MINOR, []) for code in WITH_DECIMALS
    }
    assert {code: shown(merchant, family, f"R-{code}") for code in WITH_DECIMALS} == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_each_currency_in_other_decimals_is_refused_or_held(merchant: Merchant, family: str) -> None:
    if family == "antom":
        for value in ("1280.00", "-1", "", "1e3", "0"):
            order = f"B-{value}"
            merchant.antom(order, "USD", value)
            assert merchant.outcomes("antom", order) == [("quarantined", "bad_amount")], value
        return
    for code in WITH_DECIMALS:
        decimals = PUBLISHED[code] or 0
        wrong = written(MINOR, decimals + 1)
        assert merchant.register(FAMILIES[family], f"B-{code}", amount=wrong, currency=code) == 400, code
        pay(merchant, family, f"B-{code}", code, wrong)
    held = eventually(lambda: _bad(merchant, family), within_s=30)
    assert held == {f"B-{code}" for code in WITH_DECIMALS}


def _bad(merchant: Merchant, family: str) -> set[str]:
    found, after = set[str](), ""
    while True:
        _, answer = merchant.engine.get(
            f"/api/held?reason=bad_amount&account={FAMILIES[family]}&limit=100{f'&cursor={after}' if after else ''}"
        )
        found |= {each["order"] for each in answer["held"]}
        after = answer.get("next") or ""
        if not after:
            return found if len(found) >= len(WITH_DECIMALS) else set()


def test_amount_without_decimals_may_be_written_with_two(merchant: Merchant) -> None:
    for code in [code for code, exponent in PUBLISHED.items() if exponent == 0]:
        assert merchant.register("web", f"D-{code}", amount="1280", currency=code) == 201
        pay(merchant, "mapi", f"D-{code}", code, "1280.00")
        assert shown(merchant, "mapi", f"D-{code}") == ("PAID", "1280", code, 1280, [])


@pytest.mark.parametrize("family", ["mapi", "openapi"])
def test_form_in_a_currency_without_decimals_of_its_own_is_held(merchant: Merchant, family: str) -> None:
    for code in [*WITHOUT, *IN_NO_LIST]:
        pay(merchant, family, f"U-{code}", code, "12.80")
        assert merchant.outcomes(FAMILIES[family], f"U-{code}") == [("quarantined", "unknown_currency")], code
        status, answer = merchant.engine.put(
            f"/api/orders/{FAMILIES[family]}/U-{code}", {"amount": "12.80", "currency": code}
        )
        assert (status, code in answer["detail"]) == (400, True)


def test_antom_payment_in_any_code_is_compared_in_smallest_units(merchant: Merchant) -> None:
    for code in [*WITHOUT, *IN_NO_LIST]:
        assert merchant.register("antom", f"U-{code}", amount_minor=1280, currency=code) == 201
        merchant.antom(f"U-{code}", code, "1280")
        assert shown(merchant, "antom", f"U-{code}") == ("PAID", None, code, 1280, [])
        assert merchant.register("antom", f"V-{code}", amount_minor=1281, currency=code) == 201
        merchant.antom(f"V-{code}", code, "1280")
        assert merchant.outcomes("antom", f"V-{code}") == [("quarantined", "amount_mismatch")]


@pytest.mark.parametrize("code", ["usd", "USDT", "US", "", "U$D", "ＵＳＤ"])
def test_antom_currency_that_is_no_code_is_held(merchant: Merchant, code: str) -> None:
    merchant.antom(f"N-{len(code)}{code[:1]}", code, "1280")
    assert merchant.outcomes("antom", f"N-{len(code)}{code[:1]}") == [("quarantined", "bad_amount")]


@pytest.mark.parametrize("family", FAMILIES)
def test_account_may_have_each_currency_as_its_own(family: str) -> None:
    tables: dict[str, dict[str, Any]] = {
        "mapi": {"sign_type": "RSA", "seller_id": SELLER, "keys": ["k"]},
        "openapi": {"sign_type": "RSA2", "app_id": APP, "keys": ["k"]},
        "antom": {"client_id": CLIENT, "keys": {"1": "k"}},
    }
    table = tables[family]
    for code in WITH_DECIMALS:
        parsed = accounts_toml.parse({"accounts": {"shop": {**table, "family": family, "currency": code}}})
        assert parsed["shop"].currency == code
    for code in [*WITHOUT, *IN_NO_LIST, "usd"]:
        with pytest.raises(accounts.BadAccounts, match=code):
            accounts_toml.parse({"accounts": {"shop": {**table, "family": family, "currency": code}}})
