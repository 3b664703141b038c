"""Read `accounts.toml`: the accounts in it. Their key files are relative to its directory."""

import tomllib
from pathlib import Path

from schemas import accounts_toml
from schemas.accounts import Account, BadAccounts

ENVIRONMENT = "ALIPAY_NOTIFY_ACCOUNTS"


def read(path: Path) -> dict[str, Account]:
    """Return the accounts in the file by name. Key files are not read here; they are relative to `path.parent`.

    Raises:
        BadAccounts: with every fault; also if the file cannot be read or is not TOML.
    """
    try:
        configuration = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadAccounts([f"{path} cannot be read: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadAccounts([f"{path} is not TOML: {error}"]) from None
    return accounts_toml.parse(configuration)
