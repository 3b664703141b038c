"""The keys of all accounts over HTTP: their states, when each verified a message last, and which old one may go.

Keys are shown by the fingerprints of their public halves. A secret has none, and no private key is read into an answer.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import urlencode

from aiohttp import web
from msgspec import Struct, structs

from schemas import retry_profiles, scopes, times
from schemas.accounts import Account, Family, SignType
from workers.admin import pages, responses
from workers.admin.pages import ConsoleFrame
from workers.errors import ReadTooSlow
from workers.key_uses import KeyUsed, KeyUsesPort
from workers.long_poll import OrderChanges
from workers.queries import HeldPort, HeldQuery

ACCOUNTS_SHOWN = 50
EXPIRES_SOON = timedelta(days=30)


class RingKey(Struct, frozen=True, kw_only=True):
    """One key that verifies. `retiring_until` is set if its algorithm retires, `expires_at` if it has a certificate."""

    key_id: str
    sign_type: SignType
    kind: str
    bits: int
    fingerprint: str
    expires_at: datetime | None = None
    retiring_until: datetime | None = None


class MerchantKeyInUse(Struct, frozen=True, kw_only=True):
    """The merchant's own key, which signs Requests, by its public half; `fault` if it cannot be used."""

    fingerprint: str = ""
    expires_at: datetime | None = None
    fault: str = ""


class AccountKeys(Struct, frozen=True, kw_only=True):
    """An account with its keys. `seller` is the number by which it knows its own notifications."""

    account: str
    family: Family
    seller: str
    path: str
    notify_url: str | None
    keys: tuple[RingKey, ...]
    merchant_key: MerchantKeyInUse | None


class Inventory(Protocol):
    """The keys in use. Each call may read files, so it runs on a thread."""

    def receipt_keys(self) -> Sequence[str]:
        """Return the fingerprints of the receipt keys, the one that makes receipts first."""

    def of(self, name: str) -> AccountKeys | None:
        """Return an account with its keys; `None` if there is no such account now."""


class KeyAnswer(RingKey, frozen=True, kw_only=True):
    """One key with its uses. `state` is ok, expires_soon, expired, retiring or retired.

    `verified_hour` and `verified_day` are to ten minutes. `safe_to_remove_since` is null while the key is in use, was
    never used, or while notifications of its account are held, which it may have to verify again.
    """

    state: str
    last_used_at: datetime | None
    verified_hour: int
    verified_day: int
    safe_to_remove_since: datetime | None


class AccountKeysAnswer(Struct, frozen=True, kw_only=True):
    """An account with its keys, when its last message was received, and how many notifications are held of it."""

    account: str
    family: Family
    seller: str
    path: str
    notify_url: str | None
    last_message_at: datetime | None
    held: int | None
    keys: tuple[KeyAnswer, ...]
    merchant_key: MerchantKeyInUse | None


class KeysAnswer(Struct, frozen=True, kw_only=True):
    """A page of the accounts, by name. `next` is the `after` of the next page, null if this is the last."""

    accounts: tuple[AccountKeysAnswer, ...]
    receipt_keys: tuple[str, ...]
    next: str | None


class KeysPart:
    """The API for keys, and their page."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        inventory: Inventory,
        uses: KeyUsesPort,
        held: HeldPort,
        changes: OrderChanges,
        pages: ConsoleFrame,
        now_ms: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._inventory = inventory
        self._uses = uses
        self._held = held
        self._changes = changes
        self._pages = pages
        self._now_ms = now_ms

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/keys", self.list_), web.get("/keys", self.page)]

    async def list_(self, request: web.Request) -> web.Response:
        """Return a page of the accounts with their keys."""
        return responses.json(await self._answer(request))

    async def page(self, request: web.Request) -> web.Response:
        """Show a page of the accounts with their keys."""
        seen, given = self._changes.seen, pages.given(request)
        shown = await self._answer(request)
        filters = {name: text for name, text in given.items() if name != "after"}
        return self._pages.page(
            "keys.html",
            seen=seen,
            shown=shown,
            given=given,
            next_page=None if shown.next is None else f"/keys?{urlencode({**filters, 'after': shown.next})}",
        )

    async def _answer(self, request: web.Request) -> KeysAnswer:
        limit = responses.whole_number(request, "limit", default=ACCOUNTS_SHOWN, most=responses.LIMIT_MAX)
        names = self._names(request)
        shown, now_ms = names[:limit], self._now_ms()
        accounts = {name: self._accounts[name] for name in shown}  # a reload may remove one meanwhile
        found, receipt_keys = await asyncio.to_thread(self._read, shown)
        used: dict[str, dict[str, KeyUsed]] = {}
        for each in await self._uses.key_uses(shown, now_ms=now_ms):
            used.setdefault(each.account, {})[each.key_id] = each
        held = await self._held_by_account()
        answers = [
            of_account(
                each,
                used.get(each.account, {}),
                held=None if held is None else held.get(each.account, 0),
                resent_ms=retry_profiles.of(accounts[each.account]).resent_ms,
                now=times.from_epoch_ms(now_ms),
            )
            for each in found
        ]
        next_ = shown[-1] if shown and len(names) > limit else None
        return KeysAnswer(accounts=tuple(answers), receipt_keys=tuple(receipt_keys), next=next_)

    def _names(self, request: web.Request) -> list[str]:
        """Return the accounts from the page's first one on."""
        wanted, after = request.query.get("account", "").strip(), request.query.get("after", "")
        if wanted:
            responses.known_account(self._accounts, wanted)
        return sorted(name for name in self._accounts if name > after and wanted in ("", name))

    def _read(self, names: Sequence[str]) -> tuple[list[AccountKeys], Sequence[str]]:
        found = [each for name in names if (each := self._inventory.of(name)) is not None]
        return found, self._inventory.receipt_keys()

    async def _held_by_account(self) -> dict[str, int] | None:
        """Return the number of held notifications by account; `None` if counting them takes too long."""
        try:
            groups = await self._held.held_groups(HeldQuery())
        except ReadTooSlow:
            return None
        counts: dict[str, int] = {}
        for group in groups:
            name = scopes.account_of(group.account)
            counts[name] = counts.get(name, 0) + group.count
        return counts


def of_account(
    account: AccountKeys, used: Mapping[str, KeyUsed], *, held: int | None, resent_ms: int, now: datetime
) -> AccountKeysAnswer:
    """Return the account with the uses of its keys; `used` is by key id, also of keys that it has no more.

    `resent_ms` is for how long Alipay sends a notification again, by the account's retry profile.
    """
    newest_ms = max((each.last_at_ms for each in used.values()), default=None)

    def key_answer(key: RingKey) -> KeyAnswer:
        its = used.get(key.key_id)
        # A held notification may have been signed with this key, and is verified again when it is retried.
        safe_since = None if held != 0 else _safe_since(its, newest_ms, resent_ms=resent_ms, now=now)
        return _key(key, its, safe_since=safe_since, now=now)

    rest = {name: getattr(account, name) for name in AccountKeys.__struct_fields__ if name != "keys"}
    last_message_at = None if newest_ms is None else times.from_epoch_ms(newest_ms)
    return AccountKeysAnswer(
        **rest, keys=tuple(map(key_answer, account.keys)), last_message_at=last_message_at, held=held
    )


def _key(key: RingKey, used: KeyUsed | None, *, safe_since: datetime | None, now: datetime) -> KeyAnswer:
    return KeyAnswer(
        **structs.asdict(key),
        state=state(key, now),
        last_used_at=None if used is None else times.from_epoch_ms(used.last_at_ms),
        verified_hour=0 if used is None else used.in_hour,
        verified_day=0 if used is None else used.in_day,
        safe_to_remove_since=safe_since,
    )


def state(key: RingKey | MerchantKeyInUse, now: datetime) -> str:
    """Return ok, expires_soon, expired, retiring or retired; an expired certificate's key still verifies."""
    if isinstance(key, RingKey) and key.retiring_until is not None:
        return "retiring" if now < key.retiring_until else "retired"
    if key.expires_at is None or key.expires_at - now >= EXPIRES_SOON:
        return "ok"
    return "expired" if key.expires_at <= now else "expires_soon"


def _safe_since(used: KeyUsed | None, newest_ms: int | None, *, resent_ms: int, now: datetime) -> datetime | None:
    """Return since when the key is not needed: another one has verified later, and Alipay sends no older message again.

    A key that was never used may be the next one.
    """
    if used is None or newest_ms is None or newest_ms <= used.last_at_ms:
        return None
    since = times.from_epoch_ms(used.last_at_ms + resent_ms)
    return since if since <= now else None
