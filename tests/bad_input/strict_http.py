"""The requests in some bytes, read by the letter of RFC 9112 and of our own rules: the reference for the public port.

It reads on as long as there is only one reading: no folded lines, no bare line feeds, no control bytes, one length or
one `chunked`, one Host, one Content-Type. What llhttp accepts besides, without any effect on where a request ends, is
written into the patterns: empty lines before a request; further blanks, bytes above ASCII and another protocol's name
in its first line; any number of zeros before a length or the size of a chunk.
"""

import re
from typing import NamedTuple

from ingest.http.parsing import HEADER_BYTES_MAX, HEADERS_MAX, WIRE_BYTES_MAX
from schemas.form import BODY_BYTES_MAX

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST = re.compile(rb"[\r\n]*(%b) +([\x21-\x7e\x80-\xff]+) +(?:HTTP|RTSP|ICE)/(1\.[01])\r\n" % _TOKEN)
_FIELD = re.compile(rb"(%b):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\r\n" % _TOKEN)
_CHUNK = re.compile(rb"(0*[0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_LENGTH = re.compile(rb"0*[0-9]{1,10}")

Fields = list[tuple[bytes, bytes]]


class Found(NamedTuple):
    """One whole request. `keeps`: another may follow it."""

    method: str
    target: bytes
    body: bytes
    media_type: bytes
    keeps: bool


def requests_in(data: bytes) -> list[Found]:
    """Return the whole requests at the beginning of the bytes, up to the first that is not whole, or not sound."""
    found: list[Found] = []
    place: int | None = 0
    while place is not None and (read := _request_at(data, place)) is not None:
        request, place = read
        found.append(request)
        if request.method == "CONNECT":
            break
    return found


def _request_at(data: bytes, place: int) -> tuple[Found, int] | None:
    line = _REQUEST.match(data, place)
    if line is None or len(line[2]) > HEADER_BYTES_MAX or line[2] == b"*":
        return None
    read = _fields_at(data, line.end())
    if read is None:
        return None
    fields, place = read
    values = {name: [value for other, value in fields if other == name] for name, _ in fields}
    is_old = line[3] == b"1.0"
    hosts, types = len(values.get(b"host", ())), values.get(b"content-type", [])
    if hosts > 1 or (not hosts and not is_old) or len(types) > 1:
        return None
    # What follows CONNECT may be a tunnel, and is nobody's body.
    rest = (b"", place) if line[1] == b"CONNECT" else _body_at(data, place, values, is_old=is_old)
    if rest is None:
        return None
    body, place = rest
    options = {option.strip().lower() for value in values.get(b"connection", ()) for option in value.split(b",")}
    keeps = not is_old and b"close" not in options and line[1] != b"CONNECT"
    return Found(line[1].decode(), line[2], body, types[0] if types else b"", keeps), place


def _fields_at(data: bytes, place: int) -> tuple[Fields, int] | None:
    """Return the fields of a header or trailer, and where it ends."""
    fields: Fields = []
    while not data.startswith(b"\r\n", place):
        field = _FIELD.match(data, place)
        if field is None or len(fields) == HEADERS_MAX or max(map(len, field.groups())) > HEADER_BYTES_MAX:
            return None
        fields.append((field[1].lower(), field[2]))
        place = field.end()
    return fields, place + 2


def _body_at(data: bytes, place: int, values: dict[bytes, list[bytes]], *, is_old: bool) -> tuple[bytes, int] | None:
    lengths, codings = values.get(b"content-length", []), values.get(b"transfer-encoding", [])
    if codings:
        is_plain = not lengths and not is_old and [each.lower() for each in codings] == [b"chunked"]
        return _chunks_at(data, place) if is_plain else None
    if len(lengths) > 1 or (lengths and _LENGTH.fullmatch(lengths[0]) is None):
        return None
    end = place + (int(lengths[0]) if lengths else 0)
    return (data[place:end], end) if end <= len(data) and end - place <= BODY_BYTES_MAX else None


def _chunks_at(data: bytes, place: int) -> tuple[bytes, int] | None:
    body, begin = b"", place
    while (chunk := _CHUNK.match(data, place)) is not None:
        size = int(chunk[1], 16)
        if not size:
            read = _fields_at(data, chunk.end())
            return (body, read[1]) if read is not None and read[1] - begin <= WIRE_BYTES_MAX else None
        place = chunk.end() + size + 2
        body += data[chunk.end() : place - 2]
        if data[place - 2 : place] != b"\r\n" or len(body) > BODY_BYTES_MAX:
            return None
    return None
