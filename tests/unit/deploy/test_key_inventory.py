"""The inventory of keys: fingerprints of public halves, and nothing of a private key."""

from datetime import date
from pathlib import Path

import msgspec
import pytest

from deploy.key_inventory import KeyInventory
from ingest import accounts_in_use, key_files
from ingest.accounts_in_use import AccountsInUse
from schemas import accounts_toml
from tests.support import alipay


def in_use(directory: Path, **more: object) -> AccountsInUse:
    alipay.written(directory, "a.pem", alipay.pem(alipay.rsa_key()))
    table = {"family": "mapi", "sign_type": "RSA", "keys": ["a.pem"], "seller_id": alipay.SELLER} | more
    accounts = accounts_toml.parse({"accounts": {"shop": table}})
    return AccountsInUse(accounts_in_use.load(accounts, directory))


def test_keys_are_shown_by_the_hash_of_their_public_halves(tmp_path: Path) -> None:
    own = alipay.rsa_key("merchant", bits=2048)
    alipay.written(tmp_path, "own.key", alipay.private_pem(own))
    alipay.written(tmp_path, "dsa.pem", alipay.pem(alipay.dsa_key()))
    former = {"sign_type": "DSA", "keys": ["dsa.pem"], "until": date(2030, 12, 31)}
    accounts = in_use(tmp_path, merchant_key_file="own.key", retiring=[former])
    inventory = KeyInventory(accounts, tmp_path, [b"receipt key of thirty-two bytes!"])
    shop = inventory.of("shop")
    assert shop is not None
    assert (shop.seller, shop.path, shop.notify_url) == (alipay.SELLER, "/notify/shop", None)
    assert [(key.key_id, key.kind, key.retiring_until is None) for key in shop.keys] == [
        ("a.pem", "RSA", True),
        ("dsa.pem", "DSA", False),
    ]
    assert shop.keys[0].fingerprint == key_files.fingerprint(alipay.rsa_key().public_key())
    assert shop.merchant_key is not None
    assert shop.merchant_key.fingerprint == key_files.fingerprint(own.public_key())
    (receipt,) = inventory.receipt_keys()
    assert receipt.startswith("sha256:")
    shown = msgspec.json.encode([shop, receipt]).decode()
    assert "PRIVATE" not in shown
    assert str(own.private_numbers().d) not in shown
    assert b"receipt key of".hex() not in shown


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"])
def test_merchant_key_that_cannot_be_used_is_named_without_its_content(tmp_path: Path, content: bytes) -> None:
    alipay.written(tmp_path, "own.key", content)
    shop = KeyInventory(in_use(tmp_path, merchant_key_file="own.key"), tmp_path).of("shop")
    assert shop is not None
    assert shop.merchant_key is not None
    assert "own.key" in shop.merchant_key.fault
    assert "c2VjcmV0" not in shop.merchant_key.fault


def test_account_that_is_gone_has_no_keys(tmp_path: Path) -> None:
    accounts = in_use(tmp_path)
    inventory = KeyInventory(accounts, tmp_path)
    assert accounts.has_key("shop", "a.pem")
    assert not accounts.has_key("shop", "b.pem")
    accounts.replace({})
    assert inventory.of("shop") is None
    assert not accounts.has_key("shop", "a.pem")
