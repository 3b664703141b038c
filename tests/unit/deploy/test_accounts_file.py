"""`accounts.toml` is read whole, or its faults are."""

from pathlib import Path

import pytest

from deploy import accounts_file
from schemas.accounts import BadAccounts


def faults(path: Path) -> list[str]:
    with pytest.raises(BadAccounts) as caught:
        accounts_file.read(path)
    return caught.value.faults


def test_the_accounts_of_a_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text(
        '[accounts.a]\nfamily = "mapi"\nsign_type = "RSA"\nkeys = ["密.pem"]\nseller_id = "1"\n', encoding="utf-8"
    )
    assert accounts_file.read(path)["a"].keys == {"密.pem": "密.pem"}


def test_a_file_that_is_absent_no_toml_or_no_text_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    assert "cannot be read" in faults(path)[0]
    for content in (b"[accounts", b"\xff\xfe"):
        path.write_bytes(content)
        assert "is not TOML" in faults(path)[0]
    path.write_text("")
    assert "add one for each account" in faults(path)[0]
