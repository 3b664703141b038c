"""The two halves of a world match, are kept, and stay secret."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from deploy import accounts_file
from deploy.sandbox import certificates, signing
from deploy.sandbox.identities import IDENTITIES
from deploy.sandbox.world import World, WorldError
from ingest import keys
from ingest.checkout import merchant_keys
from schemas import accounts as merchant_accounts
from schemas import accounts_toml


def test_receiver_accepts_the_merchants_configuration(world: World) -> None:
    accounts = accounts_toml.parse(tomllib.loads(world.accounts_file.read_text()))
    assert set(accounts) == {one.name for one in IDENTITIES}
    web = accounts["demo-web"]
    assert web.notify_verify
    assert web.notify_verify_url == "http://127.0.0.1:9/gateway.do"
    assert web.seller_id is None
    assert web.orders is merchant_accounts.Orders.REGISTERED
    assert accounts["demo-antom"].public_path == "/notify/demo-antom"
    assert accounts["demo-md5"].charset == "gbk"
    assert accounts["demo-isv"].auth_app_ids == ("2021999900001074", "2021999900001082")
    assert [one.sign_type for one in accounts["demo-moved"].retiring] == ["RSA", "MD5"]


def test_receiver_loads_all_keys_of_the_merchants_configuration(world: World) -> None:
    accounts = accounts_toml.parse(tomllib.loads(world.accounts_file.read_text()))
    directory = world.accounts_file.parent
    for name, account in accounts.items():
        assert keys.load(account, directory).keys, name
        loaded = None if account.family == "antom" else merchant_keys.load(account, directory)
        if name == "demo-cert":
            assert loaded is not None
            assert (loaded.app_cert_sn, loaded.root_cert_sn) == world.certificate_numbers[name]


@pytest.mark.parametrize("name", [one.name for one in IDENTITIES])
def test_merchants_key_verifies_alipays_signature(world: World, name: str) -> None:
    settings = tomllib.loads(world.accounts_file.read_text())["accounts"][name]
    signer = world.account(name).signer
    if settings["sign_type"] == "MD5":
        key: signing.PublicKey = (world.accounts_file.parent / settings["md5_key_file"]).read_bytes()
    else:
        files = settings.get("certificates") or settings["keys"]
        path = world.accounts_file.parent / (files["1"] if isinstance(files, dict) else files[0])
        content = path.read_bytes()
        is_certificate = path.suffix == ".crt"
        loaded = certificates.load(path).public_key() if is_certificate else load_pem_public_key(content)
        assert isinstance(loaded, rsa.RSAPublicKey)
        key = loaded
    assert signing.verify(b"text", signer.sign(b"text"), sign_type=settings["sign_type"], key=key)


def test_shared_mapi_key_has_1024_bits(world: World) -> None:
    assert world.account("demo-app").signer.bits == 1024
    assert world.account("demo-app").signer.sign(b"x") == world.account("demo-web").signer.sign(b"x")
    assert world.account("demo-cn").signer.bits == 2048


def test_shops_private_key_is_not_in_alipays_half(world: World) -> None:
    key = world.merchant_keys["demo-web"]
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.public_numbers() == world.shop_key().public_key().public_numbers()
    private = {path.name for path in (world.directory / "alipay").glob("*.key")}
    assert private == {
        "mapi-rsa.key", "mapi-rsa2.key", "openapi-rsa2.key", "antom-rsa256.key", "mapi-md5.key", "moved-md5.key",
        "root.key",
    }  # fmt: skip


def test_secrets_are_readable_by_their_owner_only(world: World) -> None:
    secrets = list(world.directory.rglob("*.key"))
    assert len(secrets) == 15
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in secrets)


def test_creating_again_keeps_keys_and_renews_addresses(world: World, own_directory: Path) -> None:
    certificate = world.accounts_file.parent / "keys" / "demo-cert.crt"
    again = World.create(own_directory, gateway_url="http://127.0.0.1:7", notify_base="http://127.0.0.1:6")
    assert again.account("demo-cn").signer.sign(b"x") == world.account("demo-cn").signer.sign(b"x")
    assert again.shop_key().private_numbers() == world.shop_key().private_numbers()
    assert World.load(own_directory).notify_base == "http://127.0.0.1:6"
    assert (again.accounts_file.parent / "keys" / "demo-cert.crt").read_bytes() == certificate.read_bytes()
    assert "127.0.0.1:7/gateway.do" in again.accounts_file.read_text()


def test_missing_half_of_a_key_is_restored(own_directory: Path) -> None:
    (own_directory / "merchant" / "keys" / "mapi-rsa.pem").unlink()
    mended = World.create(own_directory, gateway_url="http://127.0.0.1:7", notify_base="http://127.0.0.1:6")
    assert (mended.accounts_file.parent / "keys" / "mapi-rsa.pem").exists()


def test_empty_directory_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="alipay-notify sandbox"):
        World.load(tmp_path)


def test_damaged_world_is_refused(tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text("{")
    with pytest.raises(WorldError, match="damaged"):
        World.load(tmp_path)


def test_unknown_account_is_refused_with_the_known_ones(world: World) -> None:
    with pytest.raises(WorldError, match="demo-antom"):
        world.account("shop")


def test_merchants_that_ask_do_so_until_they_are_told_otherwise(tmp_path: Path) -> None:
    asking = [one for one in IDENTITIES if one.name in ("demo-cn", "demo-antom")]

    def configured(queries: bool | None) -> set[str]:
        world = World.create(
            tmp_path, gateway_url="http://127.0.0.1:7", notify_base="http://b", identities=asking, queries=queries
        )
        accounts = accounts_file.read(world.accounts_file)
        assert set(world.merchant_keys) >= {name for name, each in accounts.items() if each.queries}
        return {name for name, each in accounts.items() if each.queries}

    assert configured(None) == set()
    assert configured(True) == {"demo-cn", "demo-antom"}
    assert configured(None) == {"demo-cn", "demo-antom"}
    assert configured(False) == set()
