"""Reading `accounts.toml`: all accounts, or all faults."""

from pathlib import Path

import pytest

from deploy import accounts_file
from schemas.accounts import BadAccounts


def faults(path: Path) -> list[str]:
    with pytest.raises(BadAccounts) as caught:
        accounts_file.read(path)
    return caught.value.faults


def test_accounts_are_read_with_non_ascii_key_names(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text(
        '[accounts.a]\nfamily = "mapi"\nsign_type = "RSA"\nkeys = ["密.pem"]\nseller_id = "1"\n', encoding="utf-8"
    )
    assert accounts_file.read(path)["a"].keys == {"密.pem": "密.pem"}


def test_missing_or_unreadable_file_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    assert "cannot be read" in faults(path)[0]
    for content in (b"[accounts", b"\xff\xfe"):
        path.write_bytes(content)
        assert "is not TOML" in faults(path)[0]
    path.write_text("")
    assert "add one for each account" in faults(path)[0]
