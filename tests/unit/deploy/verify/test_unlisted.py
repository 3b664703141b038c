"""Key files beside an account's that no account names."""

import os
from pathlib import Path

from msgspec import structs

from deploy.verify import unlisted
from ingest import key_files
from schemas.accounts import SignType
from tests.support import alipay


def test_public_keys_that_no_account_names_are_found_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    named, removed, short = alipay.rsa_key(), alipay.rsa_key("removed"), alipay.rsa_key("short", bits=1024)
    alipay.written(tmp_path, "keys/now.pem", alipay.pem(named))
    alipay.written(tmp_path, "keys/two.pem", alipay.pem(alipay.rsa_key("two")))
    alipay.written(tmp_path, "keys/before.pem", alipay.pem(removed))
    alipay.written(tmp_path, "keys/long-ago.txt", alipay.bare_base64(short))
    alipay.written(tmp_path, "keys/mine.key", alipay.private_pem(alipay.rsa_key("mine")))
    alipay.written(tmp_path, "keys/notes.txt", b"call Alipay")
    alipay.written(tmp_path, "keys/large.pem", b"x" * 100_000)
    alipay.written(tmp_path, "elsewhere.pem", alipay.pem(removed))
    (tmp_path / "keys" / "folder.pem").mkdir()
    accounts = [
        structs.replace(alipay.openapi(), name="one", keys={"keys/now.pem": "keys/now.pem"}),
        structs.replace(alipay.openapi(), name="two", keys={"keys/two.pem": "keys/two.pem"}),
        structs.replace(alipay.mapi(SignType.MD5), name="secret"),
    ]
    found = unlisted.keys_beside(accounts, tmp_path)
    assert [key.id for key in found["one"]] == [key.id for key in found["two"]]
    of_one = {key.id: key_files.fingerprint(key.material) for key in found["one"]}
    assert of_one == {
        "before.pem": key_files.fingerprint(removed.public_key()),
        "long-ago.txt": key_files.fingerprint(short.public_key()),
    }
    assert found["secret"] == ()


def test_missing_directory_has_no_keys(tmp_path: Path) -> None:
    account = alipay.openapi(keys={"none/now.pem": "none/now.pem"})
    assert unlisted.keys_beside([account], tmp_path) == {account.name: ()}


def test_newest_files_are_read_first(tmp_path: Path) -> None:
    for number in range(40):
        alipay.written(tmp_path, f"{number}.pem", alipay.pem(alipay.rsa_key(f"key{number % 2}")))
        os.utime(tmp_path / f"{number}.pem", (number, number))
    account = alipay.openapi(keys={"now.pem": "now.pem"})
    found = unlisted.keys_beside([account], tmp_path)[account.name]
    assert [key.id for key in found] == [f"{number}.pem" for number in range(39, 9, -1)]
