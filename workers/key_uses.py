"""When each key verified messages last, and how many: what tells whether an old key may be removed.

The worker counts settled messages, by the key that the record names, and writes the counts every few seconds to the
order store, where they outlive the process. They are added up in slots of ten minutes; the slots of a key that goes on
being used are dropped after a day, its newest slot stays for ever. Best effort: a process that is killed loses the
counts of the last seconds, and a record that is redelivered may count twice.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from msgspec import Struct

from schemas import scopes
from schemas.record_format import Header, Record
from schemas.times import DAY_MS, HOUR_MS
from workers.errors import InfrastructureDown
from workers.settlement.plan import ParsedRecord, WritePlan

SLOT_MS = 600_000
KEPT_MS = DAY_MS + HOUR_MS  # of slots that are not their key's newest
WRITE_EVERY_S = 10.0
LAST_WRITE_S = 2.0  # at a stop

_KEY_ID = Header.KEY_ID.value


class KeyUse(Struct, frozen=True, kw_only=True):
    """The messages that a key verified within the slot that begins at `slot_ms`, and when the last was received."""

    account: str
    key_id: str
    slot_ms: int
    messages: int
    last_at_ms: int


class KeyUsed(Struct, frozen=True, kw_only=True):
    """When a key verified a message last, and how many in the last hour and the last day, to ten minutes."""

    account: str
    key_id: str
    last_at_ms: int
    in_hour: int
    in_day: int


def row(use: KeyUse) -> tuple[Any, ...]:
    """Return the columns of `key_uses`."""
    return use.account, use.key_id, use.slot_ms, use.messages, use.last_at_ms


def used(row: Sequence[Any]) -> KeyUsed:
    """Return a key's uses from account, key id, the last receive time, and the messages of the last hour and day."""
    account, key_id, last_at_ms, in_hour, in_day = row
    return KeyUsed(account=account, key_id=key_id, last_at_ms=last_at_ms, in_hour=in_hour, in_day=in_day)


class KeyUsesPort(Protocol):
    """The uses of keys in the order store."""

    async def note_key_uses(self, uses: Sequence[KeyUse]) -> None:
        """Add the uses to those of their slots."""

    async def key_uses(self, accounts: Sequence[str], *, now_ms: int) -> Sequence[KeyUsed]:
        """Return the uses of all keys that these accounts have or had."""


class KeyUses:
    """Counts the uses of keys; an observer of settled batches. `run` is a background task beside the worker's loops.

    `is_known` returns whether an account has a key: any program that can write to the log can name any key in a header.
    """

    def __init__(self, store: KeyUsesPort, is_known: Callable[[str, str], bool]) -> None:
        self._store = store
        self._is_known = is_known
        self._counted: dict[tuple[str, str, int], tuple[int, int]] = {}  # messages, and the last receive time

    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None:
        """Count the records that have got their disposition now; a retry of a held one is no message of its own."""
        decided = {delivery.position for delivery in plan.deliveries}
        received: dict[tuple[str, bytes, int], list[int]] = {}  # a batch has few keys and slots, so group them first
        for parsed in parsed_records:
            if parsed.notification is not None and parsed.held is None and parsed.position in decided:
                at_ms = parsed.received_at_ms
                slot_ms = at_ms - at_ms % SLOT_MS
                received.setdefault((parsed.account, _key_id(parsed.record), slot_ms), []).append(at_ms)
        for (scope, key, slot_ms), moments in received.items():
            account, key_id = scopes.account_of(scope), key.decode("utf-8", "replace")
            if self._is_known(account, key_id):
                self._add(
                    KeyUse(
                        account=account,
                        key_id=key_id,
                        slot_ms=slot_ms,
                        messages=len(moments),
                        last_at_ms=max(moments),
                    )
                )

    async def write(self) -> None:
        """Write the counts. If that fails, they are kept for the next time.

        Raises:
            InfrastructureDown: the store does not answer.
        """
        counted, self._counted = self._counted, {}
        if not counted:
            return
        uses = [
            KeyUse(account=account, key_id=key_id, slot_ms=slot_ms, messages=messages, last_at_ms=last_at_ms)
            for (account, key_id, slot_ms), (messages, last_at_ms) in sorted(counted.items())
        ]
        try:
            await self._store.note_key_uses(uses)
        except BaseException:
            for use in uses:
                self._add(use)
            raise

    async def write_last(self) -> None:
        """Write the last counts before the store is closed; not if it takes long."""
        with suppress(InfrastructureDown, TimeoutError):
            async with asyncio.timeout(LAST_WRITE_S):
                await self.write()

    async def run(self, *, every_s: float = WRITE_EVERY_S) -> None:
        """Write every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            with suppress(InfrastructureDown):  # the loops that need the store report it
                await self.write()

    def _add(self, use: KeyUse) -> None:
        name = (use.account, use.key_id, use.slot_ms)
        messages, last_at_ms = self._counted.get(name, (0, 0))
        self._counted[name] = (messages + use.messages, max(last_at_ms, use.last_at_ms))


def _key_id(record: Record) -> bytes:
    for name, value in record.headers:
        if name == _KEY_ID:
            return value
    return b""
