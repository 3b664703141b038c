"""Which notification ids Alipay has given out, to whom, and which of them have been answered: what notify_verify asks.

An id is confirmed from the moment it is issued until the merchant's `success` for it has been read, and only to the
partner it was issued to. After that the honest answer is `false`, as Alipay's is: who asks late asks too late.

The sandbox's server and `trigger` are separate processes, so ids that another process issued come in through a file of
one line per fact, appended whole and read from where the last reading ended. The file only grows; it goes with the
directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

# A day's notifications at ten a second; beyond it the oldest unanswered id is forgotten, which Alipay does by time.
_REMEMBERED = 1_000_000

Answer = Literal["true", "false", "invalid"]


class IssuedIds:
    """The ids that are waiting for a `success`."""

    def __init__(self, shared: Path | None = None, *, tells: bool = True) -> None:
        """`shared` is the file in which processes tell each other; without it, this process knows only its own.

        `tells` is false for the gateway itself: it only listens, and its own ids, which may be many, stay out of the
        file.
        """
        self._shared = shared
        self._tells = tells
        self._read_to = 0
        self._waiting: dict[str, str] = {}

    def issue(self, partner: str, notify_id: str) -> None:
        """From now on Alipay confirms this id to this partner."""
        self._remember(partner, notify_id)
        self._tell(f"+ {partner} {notify_id}\n")

    def settle(self, notify_id: str) -> None:
        """The merchant has answered `success`: from now on the id is unknown."""
        partner = self._waiting.pop(notify_id, "-")
        self._tell(f"- {partner} {notify_id}\n")

    def confirm(self, *, partner: str, notify_id: str) -> Answer:
        """What notify_verify answers to this question."""
        if not partner or not notify_id:
            return "invalid"
        self._catch_up()
        return "true" if self._waiting.get(notify_id) == partner else "false"

    def _remember(self, partner: str, notify_id: str) -> None:
        self._waiting[notify_id] = partner
        while len(self._waiting) > _REMEMBERED:
            del self._waiting[next(iter(self._waiting))]

    def _tell(self, line: str) -> None:
        if self._shared is None or not self._tells:
            return
        # One write to a file opened for appending: lines of several processes do not mix.
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
            news = file.read()
        # A process that tells reads its own lines again here; remembering or forgetting twice is harmless.
        whole = news[: news.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.decode().splitlines():
            sign, partner, notify_id = line.split(" ", 2)
            if sign == "+":
                self._remember(partner, notify_id)
            else:
                self._waiting.pop(notify_id, None)
