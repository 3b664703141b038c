"""An accounts file with one account, and a log writer whose lines can be read."""

from io import StringIO
from pathlib import Path

import pytest

from tests.support import alipay


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    key = alipay.written(tmp_path, "alipay.pem", alipay.pem(alipay.rsa_key()))
    path = tmp_path / "accounts.toml"
    path.write_text(
        f'[accounts.shop]\nfamily = "mapi"\nsign_type = "RSA2"\nkeys = ["{key}"]\n'
        'partner = "2088001"\nnotify_verify = true\n'
    )
    return path


@pytest.fixture
def log() -> StringIO:
    return StringIO()
