"""Rows marked START: a dangerous configuration does not start; the error names the account and the reason."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.bad_input import merchant
from tests.bad_input.merchant import Keys, Signer
from tests.support import alipay
from tests.support.paths import ROOT


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def small() -> bytes:
    return alipay.pem(rsa.generate_private_key(65537, 1024))


def exponent_three() -> bytes:
    return alipay.pem(rsa.generate_private_key(3, 2048))


# What to change in the suite's own sound configuration, the account it belongs to, and what must not be shown.
Change = Callable[[Path, Keys], None]
FAULTS: dict[str, tuple[str, Change]] = {
    "S13-empty": ("shop-web", lambda d, keys: write(d / "web.txt", b"")),
    "S13-one": ("shop-web", lambda d, keys: write(d / "web.txt", b"k")),
    "S13-placeholder": ("shop-web", lambda d, keys: write(d / "web.txt", b"your_key")),
    "S13-same": ("shop-web", lambda d, keys: write(d / "web.txt", b"0" * 32)),
    "S20-exponent": ("shop-cn", lambda d, keys: write(d / "cn.pem", exponent_three())),
    "S20-openapi": ("shop-cn", lambda d, keys: write(d / "cn.pem", small())),
    "S20-antom": ("antom-hk", lambda d, keys: write(d / "hk.pem", small())),
    "S20-openapi-rsa": (
        "shop-cn",
        lambda d, keys: weaken(d, 'sign_type = "RSA2"\nkeys = ["cn.pem"]', "RSA"),
    ),
    "S20-mapi-rsa2": (
        "shop-gbk",
        lambda d, keys: weaken(d, 'sign_type = "RSA"\nkeys = ["gbk.pem"]', "RSA2"),
    ),
    "S20-dsa": ("shop-dsa", lambda d, keys: write(d / "dsa.pem", alipay.pem(alipay.rsa_key("as-dsa")))),
    "S31-private": ("shop-cn", lambda d, keys: write(d / "cn.pem", private_pem(keys.cn))),
    "S31-broken": ("shop-cn", lambda d, keys: write(d / "cn.pem", alipay.pem(keys.cn)[:200])),
    "S31-kind": ("shop-dsa", lambda d, keys: write(d / "dsa.pem", alipay.pem(keys.cn))),
    "S31-certificate": ("shop-cn", lambda d, keys: write(d / "cn.pem", merchant.certificate(keys.cn))),
    "S32-missing": ("shop-cn", lambda d, keys: (d / "cn.pem").unlink()),
    "S32-none": ("shop-sg", lambda d, keys: edit(d, 'keys = ["sg.pem"]', "keys = []")),
    "H14-algorithm": ("shop-cn", lambda d, keys: edit(d, 'sign_type = "RSA2"', 'sign_type = "none"')),
    "H14-family": ("antom-hk", lambda d, keys: edit(d, 'family = "antom"', 'family = "antom"\nsign_type = "MD5"')),
    "H14-retiring-own": ("shop-cn", lambda d, keys: retire(d, "shop-cn", "RSA2")),
    "H14-retiring-zone": ("shop-cn", lambda d, keys: retire(d, "shop-cn", "RSA", until="2026-01-01T00:00:00")),
    "H16-retiring-mapi": ("shop-dsa", lambda d, keys: retire(d, "shop-dsa", "RSA2")),
    "B06": ("shop-gbk", lambda d, keys: edit(d, f'seller_id = "{merchant.SG_SELLER}"', "")),
    "toml": ("accounts.toml", lambda d, keys: write(d / "accounts.toml", b"[accounts.shop-cn\n")),
}


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def retire(directory: Path, account: str, sign_type: str, *, until: str = "2099-12-31") -> None:
    """Give the account a retiring algorithm with a key of 1024 bits."""
    write(directory / "old.pem", small())
    with (directory / "accounts.toml").open("a") as file:
        file.write(f"\n[[accounts.{account}.retiring]]\nuntil = {until}\n")
        file.write(f'sign_type = "{sign_type}"\nkeys = ["old.pem"]\n')


def weaken(directory: Path, old: str, sign_type: str) -> None:
    """Give an account another algorithm and a key of 1024 bits."""
    write(directory / "small.pem", small())
    edit(directory, old, f'sign_type = "{sign_type}"\nkeys = ["small.pem"]')


def edit(directory: Path, old: str, new: str) -> None:
    path = directory / "accounts.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def directory(signer: Signer, tmp_path: Path) -> Path:
    merchant.write_accounts(tmp_path, signer.keys)
    return tmp_path


def start(directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        "ALIPAY_NOTIFY_ACCOUNTS": str(directory / "accounts.toml"),
        "ALIPAY_NOTIFY_DATA_DIR": str(directory / "engine"),
        "ALIPAY_NOTIFY_PORT": "0",
        "ALIPAY_NOTIFY_ADMIN_PORT": "0",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "up"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_account_prevents_the_start_and_is_named(directory: Path, signer: Signer, name: str) -> None:
    account, change = FAULTS[name]
    change(directory, signer.keys)
    secrets = [line for file in directory.iterdir() if file.suffix in (".pem", ".txt") for line in shown(file)]
    ended = start(directory)
    assert ended.returncode not in (0, -9)
    assert account in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not [secret for secret in secrets if secret in ended.stderr + ended.stdout]


def shown(file: Path) -> list[str]:
    return [line for line in file.read_text(errors="replace").splitlines() if len(line) > 20 and "-----" not in line]
