"""Read notifications from JSON lines: an export of the old handler, or an access log that holds the bodies.

One JSON object a line. nginx writes such lines with `log_format … escape=json` and `$request_body`, HAProxy with a
`log-format`; deploy/docs/moving.md has both, and the table of the fields. Unknown fields are ignored.
"""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from hashlib import blake2b
from typing import Any, BinaryIO

from deploy.shadow.shapes import NO_ANSWER, MirroredRequest, OldAction, OldReaction, OldState
from deploy.shadow.state_words import UnknownState, state_of
from schemas import times

LINE_BYTES_MAX = 512 * 1024  # a body of 64 KiB, escaped, with its answer
_EPOCH_MS_MIN = 1e11  # a number above is of milliseconds
_HEADERS = {
    "content_type": "content-type", "client_id": "client-id", "request_time": "request-time", "signature": "signature",
}  # fmt: skip
_ABSENT = ("", "-")  # as access logs write a missing value
_NO_STATUS = ("-1", "0", "000")  # as balancers log a request that ended before an answer


class BadLine(ValueError):
    """The line cannot be read; the message names the fault."""


class OtherRequest(Exception):
    """The line is of a request that is no notification: no POST, or one without a body."""


def numbered(file: BinaryIO) -> Iterator[tuple[int, bytes | None, int]]:
    """Yield each line with its number, from 1, and its size in the file. A line above `LINE_BYTES_MAX` is `None`."""
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        size = len(line)
        if size <= LINE_BYTES_MAX:
            yield number, line, size
            continue
        while not line.endswith(b"\n") and (line := file.readline(LINE_BYTES_MAX)):
            size += len(line)
        yield number, None, size


def as_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object of a line, without the text that a log daemon put before it.

    Raises:
        BadLine: it has none.
    """
    try:
        found = json.loads(line[max(0, line.find(b"{")) :].decode())
    except (ValueError, RecursionError):
        raise BadLine("is not JSON; an access log needs escape=json and UTF-8") from None
    if not isinstance(found, dict):
        raise BadLine("is not a JSON object")
    return found


def text_of(fields: dict[str, Any], name: str) -> str:
    """Return a field as text; empty if it is missing.

    Raises:
        BadLine: it is no text. JSON can escape half of a character (`\\ud800`), which no file can hold.
    """
    value = fields.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadLine(f"{name} is neither text nor a number")
    text = str(value)
    if not _is_whole(text):
        raise BadLine(f"{name} is not text: it has half of a character")
    return text


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def request(line: bytes, *, now_ms: int, words: dict[str, OldState]) -> MirroredRequest:
    """Return the notification of a line. One without a time counts as received at `now_ms`.

    Raises:
        OtherRequest: it is of another request, such as a scanner's GET.
        BadLine: a field is missing or cannot be read.
    """
    fields = as_object(line)
    method = (_text(fields, "method") or "POST").upper()
    if method != "POST":
        raise OtherRequest(method)
    request, stamped = _text(fields, "request"), _text(fields, "time")
    headers = {header: value for name, header in _HEADERS.items() if (value := _text(fields, name))}
    has_identity = bool(request or stamped)
    return MirroredRequest(
        account=_text(fields, "account"),
        target=_text(fields, "path"),
        method=method,
        received_at_ms=moment_ms(stamped) if stamped else now_ms,
        headers=headers,
        body=_body(fields),
        request=request,
        line_digest=blake2b(line.strip(), digest_size=16).digest() if has_identity else b"",
        old=_old(fields, words),
    )


def moment_ms(text: str) -> int:
    """Return a time as epoch milliseconds: seconds with a fraction (`$msec`), milliseconds, or ISO 8601 with a zone.

    Raises:
        BadLine: another form.
    """
    try:
        number = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise BadLine("time is neither seconds since 1970 nor ISO 8601") from None
        if moment.tzinfo is None:
            raise BadLine("time has no zone") from None
        return times.to_epoch_ms(moment)
    if not 0 < number < 1e14:
        raise BadLine("time is out of range")
    return round(number if number > _EPOCH_MS_MIN else number * 1000)


def known_state(word: str, words: dict[str, OldState]) -> OldState | None:
    """Return the state for a word of the merchant's; `None` if it is empty.

    Raises:
        BadLine: it is for none of the known states.
    """
    try:
        return state_of(word, words) if word else None
    except UnknownState as error:
        raise BadLine(str(error)) from None


def _body(fields: dict[str, Any]) -> bytes:
    encoded = _text(fields, "body_base64")
    if encoded:
        try:
            return base64.b64decode(encoded, validate=True)
        except ValueError:
            raise BadLine("body_base64 is not base64") from None
    body = fields.get("body")
    if not isinstance(body, str):
        raise BadLine("body is missing: the log must hold the request's body")
    if body in _ABSENT:
        raise OtherRequest("no body")
    try:
        return body.encode()
    except UnicodeEncodeError:
        raise BadLine("body is not text; write it as body_base64") from None


def _old(fields: dict[str, Any], words: dict[str, OldState]) -> OldReaction | None:
    status, action = _text(fields, "status"), _text(fields, "old_did")
    answer, state = fields.get("answer"), _text(fields, "old_state")
    if status in _NO_STATUS:
        status = f"{NO_ANSWER}"
    elif status and not (status.isascii() and status.isdigit() and len(status) == 3):
        raise BadLine("status is no HTTP status")
    if answer is not None and not isinstance(answer, str):
        raise BadLine("answer is no text")
    if action and action not in {each.value for each in OldAction}:
        raise BadLine(f"old_did is none of {', '.join(OldAction)}")
    if not (status or answer is not None or action or state):
        return None
    return OldReaction(
        status=int(status) if status else None,
        body=answer,
        action=OldAction(action) if action else None,
        state=known_state(state, words),
    )


def _text(fields: dict[str, Any], name: str) -> str:
    text = text_of(fields, name)
    return "" if text in _ABSENT else text
