"""Requests with the mistakes by which two readers of HTTP, of a form or of JSON come to disagree.

`mutated` returns a few requests in a row. Each has up to three mistakes of the kinds below, and then some of the bytes
are changed at random, or none, so that the kinds themselves are tried too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

FORM = b"application/x-www-form-urlencoded"
BODY = b"out_trade_no=1&subject=%E4%B8%A4+tea&sign=x"
JSON_BODY = b'{"notifyType":"PAYMENT_RESULT","paymentAmount":{"currency":"HKD","value":"100"},"paymentId":"1"}'
LONG = b"a" * 4_096  # the longest target, name or value that is allowed

METHODS = (
    *(b"GET", b"HEAD", b"PUT", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"M-SEARCH", b"SOURCE", b"GET_PARAMETER"),
    *(b"post", b"FOO", b"P\x00ST", b"POST\t", b'"POST"', b"", b"P" * 5_000),
)
TARGETS = (
    *(b"*", b"", b"/", b"//notify/shop", b"/notify/shop?a=b", b"/notify/shop#a", b"/%6eotify/shop", b"/notify/%zz"),
    *(b"http://evil.example/notify/shop", b"http://a:b@evil/notify/shop", b"evil.example:443", b"notify/shop"),
    *(b"/notify/\xc3\xa9", b"/a b", b"/a\tb", b"/a\x00b", b"/a\x7fb", b"/a\rb", b"/a\nb", b"/" + LONG[1:], b"/" + LONG),
)
VERSIONS = (
    *(b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/01.1", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.1\t"),
    *(b"RTSP/1.0", b"ICE/1.0", b"HTTP/11", b"HTTP/1,1", b"", b"HTTP/1.1 x"),
)
LENGTHS: tuple[bytes, ...] = (
    *(b"%d", b"+%d", b"-%d", b"0x%x", b"0%d", b"%d ", b"\t%d", b"%d, %d", b"%d,", b"%d;x", b"%d.0", b"%de0", b'"%d"'),
    *(b"%d\x0b", b"%d\xc2\xa0", b"\xef\xbc\x91%d", b"1_%d", b"%d 0", b"", b" ", b"18446744073709551617", b"-0"),
    *(b"9" * 30, b"65537", b"00000000000000000000%d"),
)
CODINGS = (
    *(b"chunked", b"Chunked", b"CHUNKED", b"identity"),
    *(b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked"),
    *(b"identity, chunked", b"chunked, identity", b"chunked;q=1", b"chunked,", b",chunked", b"xchunked", b"chunkedx"),
    *(b"chunk ed", b"chunked\x0b", b"\x0bchunked", b"\xa0chunked"),
    *(b'"chunked"', b"", b"chunked\x00", b"CHUN\xc4\xb8ED"),
)
NAMES = (b"%b ", b" %b", b"%b\t", b"%b\x0b", b"%b\x00", b"X-%b", b"%b\r", b"\xa0%b", b'"%b"', b"%b:")
OTHER_FIELDS = (
    *(b"Host: y", b"Host:", b"Host: x, y", b"Host: \x00"),
    *(b"Content-Type: text/plain", b"Cookie: a=b; c=d", b"X: \xff\xfe"),
    *(b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: 100-continue, x", b"Expect: 200-ok", b"Expect:"),
    *(b"Connection: close", b"Connection: Close", b"Connection: keep-alive, close", b"Connection: keep-alive"),
    *(b"Connection: upgrade\r\nUpgrade: h2c", b"Upgrade: websocket", b"Connection: Transfer-Encoding"),
    *(b"Connection: Content-Length", b"Proxy-Connection: keep-alive", b"HTTP2-Settings: AAMAAABk", b"Trailer: Host"),
    *(b"Content-Encoding: gzip", b"Content-Encoding: identity", b"X-HTTP-Method-Override: GET", b"Keep-Alive: max=1"),
    *(b"X: a\r\n b", b"X: a\r\n\tContent-Length: 5", b"X: a\n b", b"X: a\rb", b"X: a\nb", b"X: a\x00b", b"X: a\x07b"),
    *(b"X", b":", b": x", b"X Y: z", b"X\tY: z", b"(X): y", b"X: " + LONG, b"X: " + LONG + b"a", b"Signature: " + LONG),
    *(LONG + b": x", LONG + b"a: x", b"\r\n", b" ", b"\t", b"\x00", b"GET /b HTTP/1.1"),
)
SIZES = (
    *(b"%x", b"%X", b"0%x", b"+%x", b"-%x", b"0x%x"),
    *(b" %x", b"%x ", b"%x\t", b"%xg", b"0" * 20 + b"%x", b"1" + b"0" * 15 + b"%x"),
    *(b"F" * 16, b"F" * 17, b"", b"%x;x=y", b"%x ;x", b"%x;"),
    *(b'%x;x="a;b"', b'%x;x="a\r\nb"', b"%x;x\n", b"%x;\x00", b"%x;\xff"),
    *(b"%x;x\ry", b"%x,5", b"%x;" + b"e" * 300),
)
TRAILERS = (
    *(b"T: v\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n"),
    *(b"T\r\n", b"T: v\n", b" T: v\r\n"),
    *(b"T : v\r\n", b"T: a\r\n b\r\n", b"T: \x00\r\n", b"T: v\r\n" * 65),
    *(b"POST /c HTTP/1.1\r\nHost: y\r\n", b"\n", b"\r"),
)
BETWEEN = (
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" "),
    *(b"\x00", b"junk\r\n", b"0\r\n\r\n", b"\x16\x03\x01\x00", b"PRI * HTTP/2.0\r\n\r\n"),
    *(b"HTTP/1.1 200 OK\r\n\r\n", b"5\r\nhello\r\n", b"GET /b HTTP/1.1\r\nHost: y\r\n\r\n"),
)
FORM_PIECES = (
    *(b"%", b"%z", b"%zz", b"%2", b"%00", b"%01", b"%0A", b"%0D"),
    *(b"%26", b"%3D", b"%3d", b"%25", b"%2B", b"%20", b"%7F", b"%FF"),
    *(b"%E4%B8", b"%u4E24", b"%C0%80", b"+", b"&", b"&&", b"=", b"=="),
    *(b";", b"\x00", b"\r\n", b"\n", b" ", b"\xff", b"\xef\xbb\xbf"),
    *(b"&sign=y", b"&sign=", b"&sign[]=y", b"&Sign=y"),
    *(b"&out_trade_no=2", b"&out%5Ftrade_no=2", b"&%73ign=y", b"&charset=utf-7"),
    *(b"%26total_amount%3D9", b"&a", b"&=b", b"&" + b"n" * 129 + b"=1", b"&x=" + b"v" * 300, b"&a=1&b=2" * 101),
)
JSON_PIECES = (
    *(b'"paymentId":"2",', b'"payment\\u0049d":"2",', b'"x":NaN,'),
    *(b'"x":-Infinity,', b'"x":1e999,', b'"x":' + b"9" * 40 + b","),
    *(b'"x":1.00000000000000000000001,', b'"x":-0,', b'"x":01,', b'"x":+1,'),
    *(b'"x":.5,', b'"x":"\\ud800",', b'"\\udfff":1,', b'"x":"\\u0000",'),
    *(b'"x":"\x00",', b'"x":"\xff",', b'"x":"\xed\xa0\x80",', b'"x":"a\nb",', b'"x":"\\x41",', b"'x':1,"),
    *(b"/**/", b",", b"}", b"{", b"[", b"]"),
    *(b'"x":' + b"[" * 40 + b"]" * 40 + b",", b'"x":' + b"[" * 5_000, b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b"\x0b", b"nul", b"\xc2\xa0"),
)


@dataclass
class Draft:
    """One request in the making. `framing` is the fields that tell where its body ends."""

    method: bytes = b"POST"
    target: bytes = b"/notify/shop"
    version: bytes = b"HTTP/1.1"
    blank: bytes = b" "
    line_end: bytes = b"\r\n"
    fields: list[bytes] = field(default_factory=lambda: [b"Host: x"])
    framing: list[bytes] = field(default_factory=list)
    body: bytes = b""
    chunks: list[tuple[bytes, bytes]] | None = None  # size and data of each but the last
    last: bytes = b"0"
    trailer: bytes = b""
    after: bytes = b""

    def render(self) -> bytes:
        first = self.blank.join((self.method, self.target, self.version))
        header = self.line_end.join((first, *self.fields, *self.framing, b"", b""))
        content = self.body
        if self.chunks is not None:
            content = b"".join(size + b"\r\n" + data + b"\r\n" for size, data in self.chunks)
            content += self.last + b"\r\n" + self.trailer + b"\r\n"
        return header + content + self.after


DRAFTS = (
    *3 * ((b"POST", b"HTTP/1.1", FORM, BODY),),
    *2 * ((b"POST", b"HTTP/1.1", b"application/json", JSON_BODY),),
    (b"POST", b"HTTP/1.0", FORM, b"a=1"),
    (b"GET", b"HTTP/1.1", b"text/plain", b""),
)


def _frame(draft: Draft, chance: Random) -> None:
    """Give it a length or chunks, as it should have."""
    if not draft.body:
        return
    if draft.version == b"HTTP/1.0" or chance.random() < 0.5:
        draft.framing.append(b"Content-Length: %d" % len(draft.body))
        return
    draft.framing.append(b"Transfer-Encoding: chunked")
    middle = chance.randrange(len(draft.body))
    pieces = [piece for piece in (draft.body[:middle], draft.body[middle:]) if piece]
    draft.chunks = [(b"%x" % len(piece), piece) for piece in pieces]


def _length_text(form: bytes, number: int) -> bytes:
    return form % ((number,) * form.count(b"%"))


def _insert(lines: list[bytes], line: bytes, chance: Random) -> None:
    lines.insert(chance.randrange(len(lines) + 1), line)


def _method(draft: Draft, chance: Random) -> None:
    draft.method = chance.choice(METHODS)


def _target(draft: Draft, chance: Random) -> None:
    draft.target = chance.choice(TARGETS)


def _version(draft: Draft, chance: Random) -> None:
    draft.version = chance.choice(VERSIONS)


def _line(draft: Draft, chance: Random) -> None:
    draft.blank = chance.choice((b"  ", b"\t", b"", b"\x0b", b" \t", b"\r"))


def _line_end(draft: Draft, chance: Random) -> None:
    draft.line_end = chance.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\x00\r\n", b"\r\n\r\n"))


def _other_field(draft: Draft, chance: Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 64))):
        _insert(draft.fields, chance.choice(OTHER_FIELDS), chance)


def _length(draft: Draft, chance: Random) -> None:
    """Write the length in another form, beside the framing or in its place."""
    number = len(draft.body) + chance.choice((0, 0, 0, 1, -1, 5))
    line = b"Content-Length: " + _length_text(chance.choice(LENGTHS), max(number, 0))
    if chance.random() < 0.5:
        draft.framing = [line]
    else:
        _insert(draft.framing, line, chance)


def _coding(draft: Draft, chance: Random) -> None:
    """Name another coding, beside the framing or in its place."""
    line = b"Transfer-Encoding: " + chance.choice(CODINGS)
    if chance.random() < 0.5:
        draft.framing = [line]
    else:
        _insert(draft.framing, line, chance)


def _name(draft: Draft, chance: Random) -> None:
    """Spell a field's name so that one reader knows it, and another does not."""
    lines = draft.framing or draft.fields
    place = chance.randrange(len(lines))
    name, colon, value = lines[place].partition(b":")
    lines[place] = chance.choice(NAMES) % name + colon + value


def _size(draft: Draft, chance: Random) -> None:
    if draft.chunks is None:
        return
    if chance.random() < 0.3:
        draft.last = _length_text(chance.choice(SIZES), 0)
    else:
        place = chance.randrange(len(draft.chunks))
        number = max(0, len(draft.chunks[place][1]) + chance.choice((0, 0, 0, 1, -1)))
        draft.chunks[place] = (_length_text(chance.choice(SIZES), number), draft.chunks[place][1])


def _trailer(draft: Draft, chance: Random) -> None:
    if draft.chunks is not None:
        draft.trailer = chance.choice(TRAILERS)


def _after(draft: Draft, chance: Random) -> None:
    draft.after = chance.choice(BETWEEN)


def _body(draft: Draft, chance: Random) -> None:
    """Make the form or the JSON ambiguous, and the framing right for it."""
    pieces = JSON_PIECES if draft.body == JSON_BODY else FORM_PIECES
    place = draft.body.find(b"{") + 1 if pieces is JSON_PIECES and chance.random() < 0.7 else None
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(draft.body) + 1) if place is None else place
        draft.body = draft.body[:at] + chance.choice(pieces) + draft.body[at:]


KINDS: dict[str, Callable[[Draft, Random], None]] = {
    "method": _method,
    "target": _target,
    "version": _version,
    "first line": _line,
    "line end": _line_end,
    "other field": _other_field,
    "length": _length,
    "coding": _coding,
    "name": _name,
    "chunk size": _size,
    "trailer": _trailer,
    "between requests": _after,
}
OFTEN = ("length", "coding", "name", "chunk size", "other field")

TOKENS = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"0", b"1", b";", b",", b"+", b"-", b"0x", b"\x00", b"\x0b", b"\xff"),
    *(b"chunked", b"HTTP/1.0", b"HTTP/1.1", b"\r\n\r\n", b"0\r\n\r\n", b"Host: y\r\n", b"Connection: close\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: x, chunked\r\n"),
    *(b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"GET /b HTTP/1.1\r\nHost: y\r\n\r\n"),
)


class Mutant(NamedTuple):
    """Some requests in a row, and the kinds of mistakes in them."""

    data: bytes
    kinds: frozenset[str]


def mutated(chance: Random, bodies: Sequence[bytes] = ()) -> Mutant:
    """Return one to three requests in a row with mistakes; forms have one of the `bodies`, if there are any."""
    kinds: set[str] = set()
    data = b"".join(_request(chance, bodies, kinds) for _ in range(chance.choice((1, 2, 2, 3))))
    if chance.random() < 0.3:
        kinds.add("bytes")
        data = _scrambled(data, chance)
    return Mutant(data, frozenset(kinds))


def _request(chance: Random, bodies: Sequence[bytes], kinds: set[str]) -> bytes:
    method, version, media_type, body = chance.choice(DRAFTS)
    draft = Draft(method=method, version=version, body=body)
    draft.fields.append(b"Content-Type: " + media_type)
    if bodies and draft.body == BODY:
        draft.body = chance.choice(bodies)
    if draft.body and chance.random() < 0.15:
        kinds.add("body")
        _body(draft, chance)
    _frame(draft, chance)
    for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 3))):
        kind = chance.choice(OFTEN) if chance.random() < 0.5 else chance.choice(list(KINDS))
        kinds.add(kind)
        KINDS[kind](draft, chance)
    return draft.render()


def _scrambled(text: bytes, chance: Random) -> bytes:
    """Change, add, take out or repeat a few bytes."""
    data = bytearray(text)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0 if place < len(data):
                data[place] = chance.randrange(256)
            case 1:
                data[place:place] = chance.choice(TOKENS)
            case 2:
                del data[place : place + chance.randint(1, 4)]
            case 3 if (line := data.find(b"\r\n", place)) >= 0:
                data[line + 2 : line + 2] = chance.choice(TOKENS)
            case 4:
                copied = chance.randrange(len(data) + 1)
                data[place:place] = data[copied : copied + chance.randint(1, 30)]
            case 5 if digits := [at for at, byte in enumerate(data) if byte in b"0123456789"]:
                data[chance.choice(digits)] = ord("0") + chance.randrange(10)
    return bytes(data)
