"""Keys of accounts and their uses, in memory."""

from collections.abc import Mapping, Sequence

from msgspec import structs

from schemas.accounts import Account, SignType
from schemas.times import DAY_MS, HOUR_MS
from tests.support.log_records import NOW_MS
from workers.admin.key_rings import AccountKeys, RingKey
from workers.key_uses import SLOT_MS, KeyUse, KeyUsed

OLD, NEW = (
    RingKey(key_id=name, sign_type=SignType.RSA, kind="RSA", bits=2048, fingerprint=f"sha256:{name}")
    for name in ("old.pem", "new.pem")
)


class MemoryKeyUses:
    """The uses of keys; the next writes raise the errors in `trouble`."""

    def __init__(self) -> None:
        self.noted: list[KeyUse] = []
        self.trouble: list[Exception] = []

    async def note_key_uses(self, uses: Sequence[KeyUse]) -> None:
        if self.trouble:
            raise self.trouble.pop(0)
        self.noted += uses

    async def key_uses(self, accounts: Sequence[str], *, now_ms: int) -> Sequence[KeyUsed]:
        names = sorted({(use.account, use.key_id) for use in self.noted if use.account in accounts})
        return [self._used(account, key_id, now_ms) for account, key_id in names]

    def _used(self, account: str, key_id: str, now_ms: int) -> KeyUsed:
        uses = [use for use in self.noted if (use.account, use.key_id) == (account, key_id)]
        return KeyUsed(
            account=account,
            key_id=key_id,
            last_at_ms=max(use.last_at_ms for use in uses),
            in_hour=sum(use.messages for use in uses if use.slot_ms >= now_ms - HOUR_MS),
            in_day=sum(use.messages for use in uses if use.slot_ms >= now_ms - DAY_MS),
        )


class MemoryKeys:
    """An inventory: each account has the keys in `rings`, or one key `k`."""

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self._accounts = accounts
        self.rings: dict[str, tuple[RingKey, ...]] = {}
        self.changed: dict[str, AccountKeys] = {}  # in place of what follows from the account

    def receipt_keys(self) -> Sequence[str]:
        return ["sha256:00aa"]

    def of(self, name: str) -> AccountKeys | None:
        account = self._accounts.get(name)
        if account is None:
            return None
        key = RingKey(key_id="k", sign_type=account.sign_type, kind="RSA", bits=2048, fingerprint=f"sha256:{name}")
        known = AccountKeys(
            account=name,
            family=account.family,
            seller=account.seller_id or account.app_id or account.client_id or "",
            path=account.public_path or f"/notify/{name}",
            notify_url=account.notify_url,
            keys=self.rings.get(name, (key,)),
            merchant_key=None,
        )
        return self.changed.get(name, known)


def with_changes(keys: MemoryKeys, name: str, **changes: object) -> None:
    """Let the inventory show an account with these changes."""
    known = keys.of(name)
    assert known is not None
    keys.changed[name] = structs.replace(known, **changes)


def used(uses: MemoryKeyUses, key_id: str, hours_ago: float, *, account: str = "shop", messages: int = 1) -> None:
    """Note a use of a key so many hours ago."""
    at_ms = NOW_MS - int(hours_ago * HOUR_MS)
    slot_ms = at_ms - at_ms % SLOT_MS
    uses.noted.append(KeyUse(account=account, key_id=key_id, slot_ms=slot_ms, messages=messages, last_at_ms=at_ms))
