"""The first account: what is written can be read again, and what cannot be used is not written."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy import accounts_file, first_account
from deploy.first_account import FirstAccount
from ingest import keys
from schemas.accounts import BadAccounts, Family, Orders, SignType

PRIVATE = rsa.generate_private_key(65537, 2048)
PEM = PRIVATE.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)  # fmt: skip
BASE64 = b"".join(PEM.splitlines()[1:-1])
OWN = PRIVATE.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)  # fmt: skip
ANSWERS = FirstAccount(
    name="shop-sg", family=Family.MAPI, identity="2088101122136241", sign_type=SignType.RSA, currency="USD", key=PEM
)


@pytest.mark.parametrize("key", [PEM, BASE64])
@pytest.mark.parametrize("family", list(Family))
def test_what_is_written_is_read_again_with_its_key(tmp_path: Path, family: Family, key: bytes) -> None:
    sign_type = first_account.SIGN_TYPES[family]
    answers = replace(ANSWERS, family=family, sign_type=sign_type, key=key)
    written = first_account.write(answers, tmp_path / "accounts.toml")
    account = accounts_file.read(tmp_path / "accounts.toml")["shop-sg"]
    assert account == written.account
    assert (account.orders, account.currency) == (Orders.REGISTERED, "USD")
    assert getattr(account, first_account.IDENTITIES[family]) == "2088101122136241"
    assert len(keys.load(account, tmp_path).keys) == 1


def test_files_are_for_this_user_alone(tmp_path: Path) -> None:
    written = first_account.write(ANSWERS, tmp_path / "accounts.toml")
    for path in (written.accounts_file, written.key_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_md5_secret_goes_into_a_file_of_its_own(tmp_path: Path) -> None:
    answers = replace(ANSWERS, sign_type=SignType.MD5, key=b"0123456789abcdef0123456789abcdef\n")
    written = first_account.write(answers, tmp_path / "accounts.toml")
    assert keys.load(written.account, tmp_path).sign_type is SignType.MD5
    assert "0123456789abcdef" not in written.accounts_file.read_text()


@pytest.mark.parametrize("name", ["7", "a", "0x1f", "2024-01-31", "true"])
def test_every_name_of_an_account_can_be_written(tmp_path: Path, name: str) -> None:
    first_account.write(replace(ANSWERS, name=name), tmp_path / "accounts.toml")
    assert [*accounts_file.read(tmp_path / "accounts.toml")] == [name]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"key": OWN}, "private key"),
        ({"key": b""}, "the key"),
        ({"key": b"\xff\x00"}, "the key"),
        ({"name": "Shop SG"}, "lower-case"),
        ({"name": 'x"]\n[accounts.y'}, "lower-case"),
        ({"identity": ""}, "not empty"),
        ({"currency": "usd"}, "ISO 4217"),
        ({"family": Family.OPENAPI, "sign_type": SignType.MD5}, "does not exist for family"),
    ],
)
def test_wrong_answers_are_told_and_nothing_is_written(tmp_path: Path, wrong: dict[str, object], told: str) -> None:
    answers = replace(ANSWERS, **wrong)  # type: ignore[arg-type]
    assert told in "; ".join(first_account.faults(answers))
    with pytest.raises(BadAccounts):
        first_account.write(answers, tmp_path / "accounts.toml")
    assert [*tmp_path.iterdir()] == []


def test_hint_of_the_open_platform_tells_the_two_keys_apart() -> None:
    answers = replace(ANSWERS, family=Family.OPENAPI, sign_type=SignType.RSA2, key=OWN)
    (fault,) = first_account.faults(answers)
    assert "应用公钥" in fault


def test_nothing_that_is_there_is_changed(tmp_path: Path) -> None:
    (tmp_path / "accounts.toml").write_text("mine")
    with pytest.raises(FileExistsError):
        first_account.write(ANSWERS, tmp_path / "accounts.toml")
    assert [path.name for path in tmp_path.iterdir()] == ["accounts.toml"]
    (tmp_path / "accounts.toml").unlink()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/shop-sg.pem").write_text("mine")
    with pytest.raises(FileExistsError):
        first_account.write(ANSWERS, tmp_path / "accounts.toml")
    assert (tmp_path / "keys/shop-sg.pem").read_text() == "mine"
    assert not (tmp_path / "accounts.toml").exists()


@pytest.mark.parametrize(
    ("family", "identity", "fault"),
    [
        (Family.MAPI, "208810112213624", "16 digits, beginning with 2088"),
        (Family.MAPI, "2021000000000000", "16 digits, beginning with 2088"),
        (Family.OPENAPI, "202100000000000l", "an app_id of 16 digits"),
    ],
)
def test_identity_of_another_form_is_refused(tmp_path: Path, family: Family, identity: str, fault: str) -> None:
    sign_type = first_account.SIGN_TYPES[family]
    with pytest.raises(BadAccounts) as refused:
        first_account.write(
            replace(ANSWERS, family=family, identity=identity, sign_type=sign_type), tmp_path / "accounts.toml"
        )
    assert fault in str(refused.value)
    assert first_account.identity_fault(Family.ANTOM, "SANDBOX_X") == ""
