"""The keys in use, for the console: each by the fingerprint of its public half.

The merchant's own keys are read as for a Request, and again after their files have changed. Only their public halves
leave this module.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ingest import key_files
from ingest.accounts_in_use import AccountsInUse, KeyedAccount
from ingest.checkout import merchant_keys
from ingest.checkout.merchant_keys import MerchantKeys
from ingest.key_files import BadKey, Md5Secret
from ingest.keys import Key, KeyRing
from schemas import times
from schemas.accounts import Account
from workers.admin.key_rings import AccountKeys, MerchantKeyInUse, RingKey

FINGERPRINT_CHARACTERS = 16  # of a secret: enough to compare two machines


class KeyInventory:
    """The keys of accounts and of receipts. Key files are relative to `directory`, that of `accounts.toml`."""

    def __init__(self, accounts: AccountsInUse, directory: Path, receipt_keys: Sequence[bytes] = ()) -> None:
        self._accounts = accounts
        self._merchant_keys = MerchantKeys(directory)
        self._receipt_keys = receipt_keys  # a reload may replace its content

    def receipt_keys(self) -> Sequence[str]:
        """Return the fingerprints of the receipt keys, the one that makes receipts first."""
        digests = (hashlib.sha256(b"receipt key " + key).hexdigest() for key in self._receipt_keys)
        return [f"sha256:{digest[:FINGERPRINT_CHARACTERS]}" for digest in digests]

    def of(self, name: str) -> AccountKeys | None:
        """Return an account with its keys; `None` if there is no such account now."""
        keyed = self._accounts.keyed.get(name)
        if keyed is None:
            return None
        account = keyed.account
        return AccountKeys(
            account=name,
            family=account.family,
            seller=account.seller_id or account.app_id or account.client_id or account.partner or "",
            path=account.public_path or f"/notify/{name}",
            notify_url=account.notify_url,
            keys=_keys(keyed),
            merchant_key=self._merchant_key(account),
        )

    def _merchant_key(self, account: Account) -> MerchantKeyInUse | None:
        if account.merchant_key_file is None or not merchant_keys.files(account):
            return None
        try:
            key = self._merchant_keys.of(account)
        except BadKey as bad:
            return MerchantKeyInUse(fault=str(bad))
        assert key is not None
        assert not isinstance(key.key, Md5Secret)  # `files` of such an account has no merchant_key_file
        return MerchantKeyInUse(fingerprint=key_files.fingerprint(key.key.public_key()), expires_at=key.expires_at)


def _keys(keyed: KeyedAccount) -> tuple[RingKey, ...]:
    return tuple(_key(ring, key) for ring in (keyed.ring, *keyed.ring.retiring) for key in ring.keys)


def _key(ring: KeyRing, key: Key) -> RingKey:
    return RingKey(
        key_id=key.id,
        sign_type=ring.sign_type,
        kind=key_files.kind(key.material),
        bits=key_files.bits(key.material),
        fingerprint=key_files.fingerprint(key.material),
        expires_at=key.expires_at,
        retiring_until=times.from_epoch_ms(ring.until_ms) if ring.until else None,
    )
