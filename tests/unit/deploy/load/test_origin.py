"""Accounts and keys of a run: a sandbox's, or one key beside the receiver's accounts.toml."""

from pathlib import Path

import pytest

from deploy.load import origin
from deploy.load.origin import NoAccounts, Origin
from deploy.sandbox.world import World


def test_sandbox_gives_all_accounts_that_are_verified_offline(load_world: World) -> None:
    found = origin.accounts(Origin(sandbox=str(load_world.directory)))
    assert {one.identity.name for one in found} == {
        "demo-app", "demo-cn", "demo-antom", "demo-card", "demo-md5", "demo-cert", "demo-moved",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["demo-app", "demo-cn", "demo-antom", "demo-card", "demo-md5"])
def test_key_beside_accounts_toml_gives_the_same_account_as_the_sandbox(load_world: World, name: str) -> None:
    theirs = load_world.account(name)
    (one,) = origin.accounts(
        Origin(
            names=(name,),
            accounts_toml=str(load_world.accounts_file),
            key=str(load_world.directory / "alipay" / f"{theirs.identity.key}.key"),
        )
    )
    # An Antom message names its currency itself, so its account has none.
    assert one.identity.currency == theirs.identity.currency or theirs.identity.product == "antom"
    for field in ("product", "sign_type", "charset", "seller_id", "app_id", "client_id", "path"):
        assert getattr(one.identity, field) == getattr(theirs.identity, field)
    assert one.signer.sign(b"text") == theirs.signer.sign(b"text")


def test_path_of_the_url_replaces_the_accounts_own(load_world: World) -> None:
    asked = Origin(names=("demo-antom",), sandbox=str(load_world.directory), notify_path="/pay/demo-antom")
    (one,) = origin.accounts(asked)
    assert one.identity.path == "/pay/demo-antom"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("demo-web",), "notify_verify"),
        (("demo-isv",), "several merchants"),
        (("nobody",), "no account 'nobody'"),
    ],
)
def test_account_that_a_load_cannot_use_is_refused_by_name(load_world: World, names: tuple[str, ...], why: str) -> None:
    with pytest.raises(NoAccounts, match=why):
        origin.accounts(Origin(names=names, sandbox=str(load_world.directory)))


def test_account_of_a_service_provider_is_refused(load_world: World) -> None:
    key = str(load_world.directory / "alipay" / "openapi-rsa2.key")
    with pytest.raises(NoAccounts, match="several merchants"):
        origin.accounts(Origin(names=("demo-isv",), accounts_toml=str(load_world.accounts_file), key=key))


def test_account_of_registered_orders_is_refused(load_world: World, tmp_path: Path) -> None:
    text = load_world.accounts_file.read_text().replace('orders = "any"', 'orders = "registered"')
    accounts = tmp_path / "accounts.toml"
    accounts.write_text(text)
    key = str(load_world.directory / "alipay" / "openapi-rsa2.key")
    with pytest.raises(NoAccounts, match="registered orders only"):
        origin.accounts(Origin(names=("demo-cn",), accounts_toml=str(accounts), key=key))


@pytest.mark.parametrize(
    "content", [b"", b"no key at all", b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"]
)
def test_error_for_a_file_that_is_no_private_key_hides_its_bytes(
    load_world: World, tmp_path: Path, content: bytes
) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(content)
    asked = Origin(names=("demo-cn",), accounts_toml=str(load_world.accounts_file), key=str(key))
    with pytest.raises(NoAccounts, match="no private key") as refused:
        origin.accounts(asked)
    assert "no key at all" not in str(refused.value)


def test_missing_sandbox_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoAccounts, match="no sandbox"):
        origin.accounts(Origin(sandbox=str(tmp_path)))
