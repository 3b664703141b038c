"""The requests of a run as JSON lines, for k6, wrk or a program of one's own: a cross-check by another's sender."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from deploy.load.pool import Signed


def write(path: Path, requests: Iterable[Signed], *, base: str) -> int:
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
