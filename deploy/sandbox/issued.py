"""The notification ids that Alipay has issued and whose answer is open: the source of notify_verify's answers.

An id is confirmed from its issue until the merchant's `success` for it has been read, and only to the partner that it
was issued to. After that the answer is `false`, as Alipay's is.

The sandbox's server and `trigger` are separate processes. Ids that another process issued come from a shared file with
one line per fact, which is appended atomically and read from the end of the last read. The file only grows; it is
deleted with the directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

# A day of ten notifications per second. Beyond that, the oldest open id is forgotten; Alipay forgets them by age.
_REMEMBERED = 1_000_000

Answer = Literal["true", "false", "invalid"]


class IssuedIds:
    """The ids whose `success` is still open."""

    def __init__(self, shared: Path | None = None, *, writes: bool = True) -> None:
        """`shared` is the file between processes; without it, this process knows only its own ids.

        `writes` is false for the gateway: it only reads the file, to which its own, perhaps numerous ids need not go.
        """
        self._shared = shared
        self._writes = writes
        self._read_to = 0
        self._waiting: dict[str, str] = {}

    def issue(self, partner: str, notify_id: str) -> None:
        """Confirm this id to this partner from now on."""
        self._remember(partner, notify_id)
        self._append(f"+ {partner} {notify_id}\n")

    def settle(self, notify_id: str) -> None:
        """Forget this id, because the merchant has answered `success`."""
        partner = self._waiting.pop(notify_id, "-")
        self._append(f"- {partner} {notify_id}\n")

    def confirm(self, *, partner: str, notify_id: str) -> Answer:
        """Return the answer of notify_verify."""
        if not partner or not notify_id:
            return "invalid"
        self._catch_up()
        return "true" if self._waiting.get(notify_id) == partner else "false"

    def _remember(self, partner: str, notify_id: str) -> None:
        self._waiting[notify_id] = partner
        while len(self._waiting) > _REMEMBERED:
            del self._waiting[next(iter(self._waiting))]

    def _append(self, line: str) -> None:
        if self._shared is None or not self._writes:
            return
        # Lines of several processes do not mix: each is one write to a file opened for appending.
        descriptor = os.open(self._shared, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def _catch_up(self) -> None:
        if self._shared is None or not self._shared.exists():
            return
        with self._shared.open("rb") as file:
            file.seek(self._read_to)
            added = file.read()
        # A process that writes reads its own lines again here. To remember or forget an id twice is harmless.
        whole = added[: added.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.decode().splitlines():
            sign, partner, notify_id = line.split(" ", 2)
            if sign == "+":
                self._remember(partner, notify_id)
            else:
                self._waiting.pop(notify_id, None)
