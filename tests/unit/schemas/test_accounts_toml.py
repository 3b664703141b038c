"""The content of `accounts.toml`, and all of its faults reported together."""

import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas import accounts, accounts_toml, times
from schemas.accounts import BadAccounts, Family, Orders, SignType

WHOLE = """
[accounts.shop-sg]
family = "mapi"
sign_type = "RSA"
keys = ["keys/alipay.pem"]
seller_id = "2088101122136241"
partner = "2088101122136241"
currency = "USD"
charset = "gbk"
orders = "registered"

[accounts.shop-cn]
family = "openapi"
sign_type = "RSA2"
app_id = "2021000000000000"
certificates = ["keys/alipayCertPublicKey_RSA2.crt"]
root_certificates = ["keys/alipayRootCert.crt"]

[accounts.shop-web]
family = "mapi"
sign_type = "MD5"
md5_key_file = "keys/md5"
partner = "2088101122136241"
notify_verify = true

[accounts.antom-us]
family = "antom"
client_id = "SANDBOX_1"
keys = { 1 = "keys/antom-v1.pem", 2 = "keys/antom-v2.pem" }
"""


def parsed(text: str) -> dict[str, accounts.Account]:
    return accounts_toml.parse(tomllib.loads(text))


def faults(text: str) -> list[str]:
    with pytest.raises(BadAccounts) as caught:
        parsed(text)
    assert str(caught.value) == "; ".join(caught.value.faults)
    return caught.value.faults


def account(**settings: Any) -> dict[str, Any]:
    """A mapi account that is right, with these settings changed; `None` takes one out."""
    whole = {"family": "mapi", "sign_type": "RSA", "keys": ["k.pem"], "seller_id": "2088", **settings}
    return {"accounts": {"shop": {name: value for name, value in whole.items() if value is not None}}}


def faults_of(**settings: Any) -> str:
    with pytest.raises(BadAccounts) as caught:
        accounts_toml.parse(account(**settings))
    assert all(fault.startswith("account shop: ") for fault in caught.value.faults)
    return " | ".join(caught.value.faults)


def test_complete_configuration_is_parsed_with_its_defaults() -> None:
    found = parsed(WHOLE)
    assert list(found) == ["shop-sg", "shop-cn", "shop-web", "antom-us"]
    assert found["shop-sg"].keys == {"keys/alipay.pem": "keys/alipay.pem"}
    assert found["shop-sg"].orders is Orders.REGISTERED
    assert (found["shop-cn"].charset, found["shop-cn"].currency, found["shop-cn"].orders) == (
        "utf-8",
        "CNY",
        Orders.ANY,
    )
    assert found["shop-web"].sign_type is SignType.MD5
    antom = found["antom-us"]
    assert (antom.family, antom.sign_type, antom.public_path) == (Family.ANTOM, SignType.RSA256, "/notify/antom-us")
    assert antom.keys == {"1": "keys/antom-v1.pem", "2": "keys/antom-v2.pem"}


def test_all_faults_of_all_accounts_are_reported_together() -> None:
    found = faults("""
[other]
x = 1
[accounts.Shop]
family = "mapi"
[accounts.one]
family = "paypal"
[accounts.two]
family = "openapi"
sign_type = "MD5"
md5_key_file = "f"
currency = "XXX"
charset = "utf-7"
retry_profile = "twice"
[accounts.three]
family = "antom"
keys = { v1 = "f" }
surprise = true
notify_verify = "yes"
""")
    assert len(found) == 10
    for part in (
        "unknown table [other]",
        "account Shop: a name must be lower-case",
        "account one: family must be one of mapi, openapi, antom",
        "account two: sign_type MD5 does not exist for family openapi",
        "account two: family openapi needs app_id",
        "account two: currency XXX",
        "account two: charset must be one of",
        "account two: retry_profile must be one of cn-4m",
        "account three: unknown setting surprise",
        "account three: notify_verify must be true or false",
    ):
        assert any(part in fault for fault in found), part


@pytest.mark.parametrize("configuration", [{}, {"accounts": {}}, {"accounts": []}, {"accounts": "x"}])
def test_configuration_without_accounts_is_refused(configuration: Any) -> None:
    with pytest.raises(BadAccounts, match="add one for each account"):
        accounts_toml.parse(configuration)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a/b", "a.b", "é", "a" * 65, "a b"])
def test_account_name_that_does_not_fit_a_url_is_refused(name: str) -> None:
    with pytest.raises(BadAccounts):
        accounts_toml.parse({"accounts": {name: {"family": "mapi"}}})


def test_longest_and_shortest_account_name_are_accepted() -> None:
    whole = account()["accounts"]["shop"]
    assert set(accounts_toml.parse({"accounts": {"a": whole, "b" * 64: whole}})) == {"a", "b" * 64}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"sign_type": None}, "sign_type must be one of"),
        ({"sign_type": "RSA3"}, "sign_type must be one of"),
        ({"sign_type": "rsa"}, "sign_type must be one of"),
        ({"keys": "k.pem"}, "keys must be a list"),
        ({"keys": [1]}, "keys must be a list"),
        ({"merchant_key_file": ""}, "merchant_key_file must be a text in quotes"),
        ({"certificates": "c"}, "certificates must be a list"),
        ({"notify_verify": 1}, "notify_verify must be true or false"),
        ({"seller_id": 2088}, "seller_id must be a text"),
        ({"seller_id": ""}, "seller_id must be a text"),
        ({"currency": 1}, "currency must be a text"),
        ({"orders": "some"}, "orders must be one of"),
        ({"capture": "later"}, "capture must be one of automatic, manual"),
        ({"name": "x"}, "unknown setting name"),
    ],
)
def test_each_setting_that_cannot_be_read_is_reported(settings: dict[str, Any], fault: str) -> None:
    assert fault in faults_of(**settings)


def test_account_that_is_not_a_table_is_refused() -> None:
    with pytest.raises(BadAccounts, match="account shop: must be a table"):
        accounts_toml.parse({"accounts": {"shop": "mapi"}})


def test_faults_do_not_contain_values_that_could_be_secrets() -> None:
    assert "hunter2hunter2" not in faults_of(sign_type="MD5", keys=None, md5_key="hunter2hunter2")


def openapi(**settings: Any) -> dict[str, Any]:
    return account(family="openapi", sign_type="RSA2", app_id="2021", seller_id=None, **settings)


def test_auth_app_id_is_one_merchant_a_list_or_any() -> None:
    one = accounts_toml.parse(openapi(auth_app_id="2021A"))["shop"]
    assert (one.auth_app_id, one.auth_app_ids) == ("2021A", ())
    listed = accounts_toml.parse(openapi(auth_app_id=["2021A", "2021B"], first_auth_app_id="2021B"))["shop"]
    assert (listed.auth_app_id, listed.auth_app_ids) == (None, ("2021A", "2021B"))
    any_ = accounts_toml.parse(openapi(auth_app_id="any"))["shop"]
    assert any_.auth_app_ids == accounts.ANY_AUTH_APP_ID


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"auth_app_id": []}, "a list of such numbers"),
        ({"auth_app_id": ["2021A", ""]}, "a list of such numbers"),
        ({"auth_app_id": ["2021/A"]}, "a list of such numbers"),
        ({"auth_app_id": ["2021A", "2021A"]}, "auth_app_id has a number twice"),
        ({"auth_app_ids": ["2021A"]}, "unknown setting auth_app_ids"),
        ({"first_auth_app_id": "2021A"}, "needs several merchants"),
        ({"auth_app_id": ["2021A"], "first_auth_app_id": "2021B"}, "must be in auth_app_id"),
    ],
)
def test_wrong_merchants_are_faults(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadAccounts, match=fault):
        accounts_toml.parse(openapi(**settings))


def test_several_merchants_belong_to_the_open_platform() -> None:
    assert "belongs to family openapi" in faults_of(auth_app_id="any")


RSA2_ACCOUNT = """
[accounts.shop]
family = "mapi"
sign_type = "RSA2"
keys = ["new.pem"]
seller_id = "2088"
"""


def retiring(until: str, sign_type: str = "RSA", key: str = 'keys = ["old.pem"]') -> str:
    return f'[[accounts.shop.retiring]]\nsign_type = "{sign_type}"\n{key}\nuntil = {until}\n'


@pytest.mark.parametrize(
    ("until", "end"),
    [
        ("2026-11-30", datetime(2026, 12, 1, tzinfo=times.BEIJING)),
        ("2026-11-30T10:00:00Z", datetime(2026, 11, 30, 10, tzinfo=UTC)),
        ("2026-11-30T10:00:00+09:00", datetime(2026, 11, 30, 1, tzinfo=UTC)),
        ("9999-12-31", datetime(9999, 12, 31, tzinfo=times.BEIJING) + timedelta(hours=23, minutes=59)),
        ("2001-01-01", datetime(2001, 1, 2, tzinfo=times.BEIJING)),
    ],
)
def test_retiring_algorithm_ends_with_its_date_or_at_its_moment(until: str, end: datetime) -> None:
    entry = parsed(RSA2_ACCOUNT + retiring(until))["shop"].retiring[0]
    assert (entry.sign_type, entry.keys) == (SignType.RSA, {"old.pem": "old.pem"})
    assert 0 <= entry.until_ms - times.to_epoch_ms(end) <= 60_000


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (retiring("2026-11-30T10:00:00"), "until must be a date"),
        (retiring("10:00:00"), "until must be a date"),
        (retiring('"2026-11-30"'), "until must be a date"),
        (retiring("2026-11-30", "RSA2"), "already that of the account"),
        (retiring("2026-11-30") * 2, "retiring entry 2: sign_type RSA is already"),
        (retiring("2026-11-30", "RSA256"), "does not exist for family mapi"),
        (retiring("2026-11-30", "none"), "sign_type must be one of"),
        (retiring("2026-11-30", key=""), "no key"),
        (retiring("2026-11-30", "MD5"), "sign_type MD5 needs md5_key_file"),
        (retiring("2026-11-30", "MD5", "md5_key_file = 7"), "md5_key_file must be a text"),
        (retiring("2026-11-30", key='keys = ["o"]\ncertificates = []'), "unknown setting certificates"),
    ],
)
def test_h14_fault_of_a_retiring_entry_names_account_and_entry(entry: str, fault: str) -> None:
    found = faults(RSA2_ACCOUNT + entry)
    assert all(each.startswith("account shop: retiring entry ") for each in found)
    assert fault in "; ".join(found)


def test_all_faults_of_retiring_entries_are_reported_together() -> None:
    found = faults(RSA2_ACCOUNT + retiring("1") + retiring("2026-11-30", "none", "keys = 3"))
    assert len(found) == 3
    assert "retiring must be tables" in faults(RSA2_ACCOUNT + "retiring = 3")[0]
