"""The settings of an account on the page of settings: each once, with the default that holds."""

import pytest

from deploy import account_settings
from schemas import accounts_toml
from schemas.accounts import Account, BadAccounts, Family


def account(**table: object) -> Account:
    return accounts_toml.parse({"accounts": {"shop": table}})["shop"]


def test_each_setting_has_a_row_with_its_families() -> None:
    rows = [row.split(" | ") for row in account_settings.table()][2:]
    assert [row[0].strip("| `") for row in rows] == [*account_settings.SETTINGS]
    assert {name for row in rows for name in row[1].split(", ")} == {"all", *Family}


def test_defaults_are_those_of_an_account_that_names_only_what_is_required() -> None:
    shown = {row.split("`")[1]: row.split(" | ")[2].strip("`") for row in [*account_settings.table()][2:]}
    read = account(family="antom", client_id="SANDBOX_1", keys={"1": "antom.pem"})
    named = ("currency", "charset", "orders", "capture")
    assert {name: shown[name] for name in named} == {name: str(getattr(read, name)) for name in named}
    assert (shown["queries"], shown["notify_verify"]) == ("false", "false")
    assert read.public_path == shown["public_path"].replace("NAME", "shop")
    assert read.sign_type == shown["sign_type"].partition("antom: `")[2]


def test_a_setting_that_the_page_calls_required_is_required() -> None:
    required = [name for name, setting in account_settings.SETTINGS.items() if setting.default == "required"]
    assert required == ["family", "app_id", "client_id"]
    given = {"app_id": ("openapi", "RSA2"), "client_id": ("antom", "RSA256")}
    for name, (family, sign_type) in given.items():
        with pytest.raises(BadAccounts, match=f"needs {name}"):
            account(family=family, sign_type=sign_type, keys=["a.pem"] if family == "openapi" else {"1": "a.pem"})
