"""The requests of a run as JSON lines, for k6, wrk or a program of one's own: a cross-check by another's sender.

Every attempt as JSON lines in a file, for a judge who trusts nobody: `call` when it is made, then how it ended.

The shape of a line is that of the sandbox's own history. Lines are gathered and written whole several times a second:
to write each by itself would cost more than to send it. Several senders append to one file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from deploy.load.corpus import SentNotification, SignedRequest
from deploy.load.generator import Call, SendAttempt


def write(path: Path, requests: Iterable[SignedRequest], *, base: str) -> int:
    """One line a request, in the order of sending: method, URL, headers, body, and whether it has to be refused. How
    many there are."""
    count = 0
    with path.open("wb") as file:
        for one in requests:
            head, _, body = one.request.partition(b"\r\n\r\n")
            first, *lines = head.decode("ascii").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            # A client writes these itself.
            del headers["Host"], headers["Content-Length"]
            line = {
                "method": "POST",
                "url": base + first.split(" ")[1],
                "headers": headers,
                "body": body.decode("utf-8"),
                "refused": one.told.forged,
                "account": one.told.account,
                "order": one.told.order,
                "notification_id": one.told.notify_id,
            }
            file.write(msgspec.json.encode(line) + b"\n")
            count += 1
    return count


_WRITE_AT_BYTES = 64 * 1024
_WRITE_AFTER_S = 0.2


class RunHistory:
    """The file, for one sender. Close it, or the last lines are lost."""

    def __init__(self, path: Path, told: Sequence[SentNotification]) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._told = told
        self._lines = bytearray()
        self._written = time.monotonic()

    def called(self, call: Call) -> None:
        self._add("call", call.index, number=call.number)

    def ended(self, attempt: SendAttempt) -> None:
        self._add(attempt.outcome, attempt.index, number=attempt.number, status=attempt.status or None, why=attempt.why)

    def close(self) -> None:
        """All lines are in the file."""
        self._write()
        os.close(self._descriptor)

    def _add(self, what: str, index: int, *, number: int, **more: object) -> None:
        told = self._told[index]
        fact = {
            "what": what, "id": told.notify_id, "account": told.account, "order": told.order, "attempt": number,
            "forged": told.forged, "again": told.again,
            "wall": datetime.now(UTC).isoformat(), "mono_ns": time.monotonic_ns(),
        }  # fmt: skip
        self._lines += msgspec.json.encode(fact | more) + b"\n"
        if len(self._lines) > _WRITE_AT_BYTES or time.monotonic() - self._written > _WRITE_AFTER_S:
            self._write()

    def _write(self) -> None:
        # One write to a file opened for appending: lines of several senders do not mix.
        os.write(self._descriptor, self._lines)
        self._lines.clear()
        self._written = time.monotonic()
