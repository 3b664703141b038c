"""Write the files of a load run as JSON lines: its requests for another sender, and every attempt as a history.

The exported requests let k6, wrk or one's own program cross-check our sender. The history has a line `call` for each
attempt and a line for its end, in the shape of the sandbox's history, for a judge outside of this program.
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


def export_requests(path: Path, requests: Iterable[SignedRequest], *, base: str) -> int:
    """Write one line for each request, in the order of sending, and return the number of lines.

    A line has method, URL, headers, body, and whether the receiver must refuse the request.
    """
    count = 0
    with path.open("wb") as file:
        for one in requests:
            head, _, body = one.request.partition(b"\r\n\r\n")
            first, *lines = head.decode("ascii").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            # HTTP clients write these themselves.
            del headers["Host"], headers["Content-Length"]
            line = {
                "method": "POST",
                "url": base + first.split(" ")[1],
                "headers": headers,
                "body": body.decode("utf-8"),
                "refused": one.sent.forged,
                "account": one.sent.account,
                "order": one.sent.order,
                "notification_id": one.sent.notify_id,
            }
            file.write(msgspec.json.encode(line) + b"\n")
            count += 1
    return count


_WRITE_AT_BYTES = 64 * 1024
_WRITE_AFTER_S = 0.2


class RunHistory:
    """The history file, written by one sender; several senders may append to it. `close` writes the last lines.

    Lines are buffered and written together several times a second, because one write each would cost more than the
    request.
    """

    def __init__(self, path: Path, sent: Sequence[SentNotification]) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._sent = sent
        self._lines = bytearray()
        self._written = time.monotonic()

    def called(self, call: Call) -> None:
        self._add("call", call.index, number=call.number)

    def ended(self, attempt: SendAttempt) -> None:
        self._add(attempt.outcome, attempt.index, number=attempt.number, status=attempt.status or None, why=attempt.why)

    def close(self) -> None:
        """Write the remaining lines and close the file."""
        self._write()
        os.close(self._descriptor)

    def _add(self, what: str, index: int, *, number: int, **more: object) -> None:
        sent = self._sent[index]
        fact = {
            "what": what, "id": sent.notify_id, "account": sent.account, "order": sent.order, "attempt": number,
            "forged": sent.forged, "again": sent.duplicate,
            "wall": datetime.now(UTC).isoformat(), "mono_ns": time.monotonic_ns(),
        }  # fmt: skip
        self._lines += msgspec.json.encode(fact | more) + b"\n"
        if len(self._lines) > _WRITE_AT_BYTES or time.monotonic() - self._written > _WRITE_AFTER_S:
            self._write()

    def _write(self) -> None:
        # A single write in append mode does not interleave with the lines of other senders.
        os.write(self._descriptor, self._lines)
        self._lines.clear()
        self._written = time.monotonic()
