"""Read the parameters of a message from a dump: the text that a program printed after it had decoded them.

The texts are untrusted: they are searched with bounded patterns, and nothing in them is evaluated. A dump shows less
than the raw body. Its charset, escapes and order are lost, so several readings of it may be tried.

    {"app_id": "2021...", "sign": "..."}             JSON, also inside a log line
    {'app_id': '2021...'}  ("app_id", "2021...")     Python, JavaScript, Ruby, PHP var_export, Go %#v
    [app_id] => 2021...                              PHP print_r
    ["app_id"]=> string(16) "2021..."                PHP var_dump
    {app_id=2021..., sign=...}                       Java Map.toString
    map[app_id:2021... sign:...]                     Go
    app_id: 2021...                                  one pair a line
"""

import json
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import islice
from typing import Any

from msgspec import Struct

from schemas.form import KNOWN_NAMES

CHARACTERS_MAX = 128 * 1024
PAIRS_MAX = 1000
_KNOWN_TEXTS = frozenset(name.decode() for name in KNOWN_NAMES)
_OBJECTS_MAX = 50  # places in one text where a JSON object may begin
_MAPS_MAX = 10
_DEPTH_MAX = 6

Value = str | bytes  # bytes if the dump shows bytes
Pairs = tuple[tuple[Value, Value], ...]


class Notation(StrEnum):
    """How a dump is written."""

    JSON = "json"
    QUOTED = "quoted"
    PRINT_R = "print_r"
    VAR_DUMP = "var_dump"
    SERIALIZED = "serialized"
    MAP = "map"
    GO_MAP = "go_map"
    LINES = "lines"


class Dump(Struct, frozen=True):
    """Parameters that a program printed, in the order of the text."""

    notation: Notation
    pairs: Pairs

    def value(self, name: str) -> str:
        """Return the last value of this name as text; empty if there is none."""
        found = [value for key, value in self.pairs if key in (name, name.encode())]
        return _text(found[-1]) if found else ""


class Event(Struct, frozen=True):
    """A request as a serverless platform or a log shows it: a JSON object with headers and body.

    If the body `is_parsed`, it was an object of its own, and is written compactly here.
    """

    body: str
    headers: dict[str, str] = {}
    target: str = ""
    is_parsed: bool = False


def read(text: str) -> Iterator[Dump]:
    """Yield each reading of a text that has a signature among its parameters, or the result of an app. Never raises."""
    if len(text) > CHARACTERS_MAX:
        return
    seen = set()
    for notation, reader in _READERS.items():
        for pairs in reader(text):
            if pairs not in seen and len(pairs) <= PAIRS_MAX and _is_message(pairs):
                seen.add(pairs)
                yield Dump(notation, pairs)


def events(text: str) -> Iterator[Event]:
    """Yield the requests in JSON objects of a text, and its strings that may be a body. Never raises."""
    if len(text) <= CHARACTERS_MAX:
        for found in _json_values(text):
            yield from _events_in(found, depth=0)


def _is_message(pairs: Pairs) -> bool:
    names = {_text(name) for name, _ in pairs}
    return len(names) > 1 and ("sign" in names or {"resultStatus", "result"} <= names)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


# JSON


class _Object(list[tuple[str, Any]]):
    """A JSON object, with its members in their order."""


_decoder = json.JSONDecoder(object_pairs_hook=_Object, parse_int=str, parse_float=str, strict=False)


def _json_values(text: str) -> Iterator[Any]:
    """Yield the outermost JSON objects of a text, and a JSON string that it may be as a whole."""
    start = text.lstrip()
    position = len(text) - len(start) if start.startswith('"') else text.find("{")
    for _ in range(_OBJECTS_MAX):
        if position < 0:
            return
        try:
            found, end = _decoder.raw_decode(text, position)
            yield found
        except (ValueError, RecursionError):
            end = position + 1
        position = text.find("{", end)


def _json(text: str) -> Iterator[Pairs]:
    escaped = [text.replace('\\"', '"')] if '{\\"' in text else []  # JSON inside the text of a log line
    for each_text in (text, *escaped):
        for found in _json_values(each_text):
            for each in _objects_in(found, depth=0):
                yield tuple((name, _scalar(value)) for name, value in each)


def _objects_in(value: Any, *, depth: int) -> Iterator[_Object]:
    """Yield the objects in a value that have a signature; strings that are JSON are read too."""
    if depth > _DEPTH_MAX:
        return
    if isinstance(value, str) and value.lstrip()[:1] in ('"', "{"):
        for inner in _json_values(value):
            yield from _objects_in(inner, depth=depth + 1)
    elif isinstance(value, _Object):
        if any(name in ("sign", "resultStatus") for name, _ in value):
            yield value
        for _, member in value:
            yield from _objects_in(member, depth=depth + 1)
    elif isinstance(value, list):
        for member in value:
            yield from _objects_in(member, depth=depth + 1)


def _scalar(value: Any) -> str:
    """Return a member as the text that it probably was: a list of one is its element, an object is compact JSON."""
    if isinstance(value, list) and not isinstance(value, _Object) and len(value) == 1:
        return _scalar(value[0])
    if isinstance(value, str):
        return _whole(value)
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    return compact(value)


def compact(value: Any) -> str:
    """Return a JSON value as Alipay writes it: in the order of its members, without blanks."""
    try:
        return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return ""


def _plain(value: Any) -> Any:
    if isinstance(value, _Object):
        return {name: _plain(member) for name, member in value}
    return [_plain(member) for member in value] if isinstance(value, list) else value


def _events_in(value: Any, *, depth: int) -> Iterator[Event]:
    if depth > _DEPTH_MAX:
        return
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        for inner in _json_values(value):
            yield from _events_in(inner, depth=depth + 1)
    elif isinstance(value, str) and _FORM.fullmatch(value.strip()) is not None and "sign=" in value:
        yield Event(value.strip())
    elif isinstance(value, _Object):
        members = {name.lower(): member for name, member in value}
        body = next((members[name] for name in ("body", "rawbody", "raw_body", "payload") if members.get(name)), None)
        if body is not None and isinstance(members.get("headers"), _Object):
            headers = {name.lower(): _scalar(header) for name, header in members["headers"]}
            target = next((members[name] for name in ("path", "url", "uri") if isinstance(members.get(name), str)), "")
            is_parsed = not isinstance(body, str)
            yield Event(compact(body) if is_parsed else body, headers, target, is_parsed)
        for member in members.values():
            yield from _events_in(member, depth=depth + 1)
    elif isinstance(value, list):
        for member in value:
            yield from _events_in(member, depth=depth + 1)


_FORM = re.compile(r"(?<![^\s\"'<>&=])[^\s\"'<>&=]++=[^\s\"'<>&]*+(?:&[^\s\"'<>&=]*+=?[^\s\"'<>&]*+)+")


def forms_in(text: str) -> Iterator[str]:
    """Yield the pieces of a text that may be a signed form or query, still encoded, such as one in a log line."""
    if len(text) <= CHARACTERS_MAX:
        for found in _FORM.finditer(text):
            if "sign=" in found[0]:
                form = found[0].rpartition("?")[2].rstrip(",;)]}")
                rest = form.partition("=")[2]
                if rest.partition("=")[0] in _KNOWN_TEXTS:  # a label such as `body=` stands in front
                    yield rest
                yield form


# names and values in quotes

_LITERAL = r"(?:[bBuUrR]{0,2}+(?<!\\)(?:'(?:[^'\\]|\\.){0,17000}+'|\"(?:[^\"\\]|\\.){0,17000}+\"))"
_VALUE = (
    rf"(?:{_LITERAL}(?:\s*+\+?\s*+{_LITERAL})*+|-?\d++(?:\.\d++)?+"
    r"|(?:None|null|nil|NULL|undefined|True|False|true|false)\b)"
)
_QUOTED = re.compile(
    rf"\(\s*+(?P<first>{_LITERAL})\s*+,\s*+[\[(]?(?P<second>{_VALUE})"
    rf"|(?P<name>{_LITERAL}|(?<![\w\"'\[])[A-Za-z_][\w.-]*+)\s*+(?:=>|[:=])\s*+(?:\[\]string\{{|[\[(])?+\s*+(?P<value>{_VALUE})",
    re.DOTALL,
)
_PIECE = re.compile(_LITERAL, re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(\r?\n|.))", re.DOTALL)
_SINGLE = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": "", "\r\n": ""}


def _quoted(text: str) -> Iterator[Pairs]:
    found = _QUOTED.finditer(text)
    yield tuple((_value(each["first"] or each["name"]), _value(each["second"] or each["value"])) for each in found)


def _value(written: str) -> Value:
    pieces = [_literal(piece[0]) for piece in _PIECE.finditer(written)]
    if not pieces:
        return "" if written in ("None", "null", "nil", "NULL", "undefined") else written
    if any(isinstance(piece, bytes) for piece in pieces):
        return b"".join(piece if isinstance(piece, bytes) else piece.encode("utf-8", "replace") for piece in pieces)
    return _whole("".join(_text(piece) for piece in pieces))


def _literal(written: str) -> Value:
    start = min(position for position in (written.find("'"), written.find('"')) if position >= 0)
    prefix, inner = written[:start].lower(), written[start + 1 : -1]
    text = inner if "r" in prefix else _ESCAPE.sub(_unescaped, inner)
    if "b" in prefix and all(ord(character) < 256 for character in text):
        return text.encode("latin-1")
    return text


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code:
        return chr(int(code, 16)) if int(code, 16) <= 0x10FFFF else "\ufffd"
    return _SINGLE.get(match[4], match[4])


def _whole(text: str) -> str:
    r"""Return the text with surrogate pairs joined, because JavaScript escapes a character beyond \uFFFF as two."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# PHP

_ENTRY = re.compile(r"\[([A-Za-z_][\w.-]*)\][ ]?=>[ ]?")
_LAST = re.compile(r"(?:\r?\n)?[ \t]*(?:\r?\n)?[ \t]*\)\s*.*\Z", re.DOTALL)
_DUMPED = re.compile(r"\[\"(?P<name>[A-Za-z_][\w.-]*)\"\]\s?=>\s*string\((?P<length>\d{1,6})\) \"")
_DUMPED_END = re.compile(r"\"\s*(?:\[\"|\}\s*\Z)")
_XDEBUG = re.compile(r"'([A-Za-z_][\w.-]*)' =>\s*string '(.{0,17000}?)' \(length=\d+\)", re.DOTALL)
_SERIALIZED = re.compile(r's:\d+:"([A-Za-z_][\w.-]*)";(?:s:\d+:"(.{0,17000}?)"|N)(?=;)', re.DOTALL)


def _print_r(text: str) -> Iterator[Pairs]:
    entries = list(_ENTRY.finditer(text))
    ends = [*(entry.start() for entry in entries[1:]), len(text)][: len(entries)]
    pairs = []
    for entry, end in zip(entries, ends, strict=True):
        value = text[entry.end() : end]
        closed = _LAST.sub("", value) if end == len(text) else re.sub(r"(?:\r?\n[ \t]*|[ ]+)\Z", "", value)
        pairs.append((entry[1], closed))
    yield tuple(pairs)


def _var_dump(text: str) -> Iterator[Pairs]:
    found = islice(_DUMPED.finditer(text), PAIRS_MAX)
    yield tuple((each["name"], _dumped(text, each.end(), int(each["length"]))) for each in found)
    yield tuple((each[1], each[2]) for each in _XDEBUG.finditer(text))


def _dumped(text: str, start: int, length: int) -> str:
    """Return the value that begins here. Its length counts bytes, in a charset that the dump may not have any more."""
    value = text[start : start + length].encode()[:length].decode("utf-8", "ignore")
    if text[start + len(value) : start + len(value) + 1] == '"':
        return value
    end = _DUMPED_END.search(text, start)
    return text[start : end.start()] if end is not None else text[start:]


def _serialized(text: str) -> Iterator[Pairs]:
    yield tuple((each[1], each[2] or "") for each in _SERIALIZED.finditer(text))


# maps without quotes

_NAME = r"[A-Za-z_][\w.-]*"
_KNOWN = "|".join([*sorted(_KNOWN_TEXTS, key=len, reverse=True), "resultStatus", "result", "memo"])
_MAPS = (
    # opening bracket, closing bracket, between two pairs, between name and value
    ("{", "}", ", ", "="),
    ("[", "]", ", ", ":"),
    ("Map(", ")", ", ", " -> "),
)
_GO = ("map[", "]", " ", ":")


def _map(text: str) -> Iterator[Pairs]:
    for brackets in _MAPS:
        yield from _bracketed(text, *brackets)


def _go_map(text: str) -> Iterator[Pairs]:
    yield from _bracketed(text, *_GO)


def _bracketed(text: str, opening: str, closing: str, between: str, separator: str) -> Iterator[Pairs]:
    """Yield the pairs of each place that looks like such a map.

    A value may contain what stands between two pairs, so a second reading divides at Alipay's names only.
    """
    starts = list(re.finditer(re.escape(opening) + rf"(?={_NAME}{re.escape(separator)})", text))
    end = text.rfind(closing)
    for start in starts[:_MAPS_MAX]:
        inner = text[start.end() : end] if end > start.end() else text[start.end() :]
        for names in (_NAME, _KNOWN):
            pieces = re.split(rf"(?:\A|{re.escape(between)})({names}){re.escape(separator)}", inner)
            yield _single(tuple(zip(pieces[1::2], pieces[2::2], strict=True)))


def _single(pairs: tuple[tuple[str, str], ...]) -> Pairs:
    """Return the pairs, without brackets if each value is a list of one."""
    if pairs and all(value[:1] == "[" and value[-1:] == "]" for _, value in pairs):
        return tuple((name, value[1:-1]) for name, value in pairs)
    return pairs


# one pair a line

_LINE = re.compile(rf"[ \t]*[\"']?({_NAME})[\"']?[ \t]*(?:=>|[=:\t])[ ]?(.*)")
_LOGGED = re.compile(rf".*?(?<![\w.])({_KNOWN})[\"']?[ \t]*(?:=>|[=:\t])[ ]?(.*)")


def _lines(text: str) -> Iterator[Pairs]:
    lines = text.split("\n")
    for pattern in (_LINE, _LOGGED):
        pairs: list[tuple[str, str]] = []
        for line in lines:
            match = pattern.match(line)
            if match is not None:
                pairs.append((match[1], match[2].rstrip("\r")))
            elif pairs and line.strip():
                pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]}\n{line}")
        yield tuple(pairs)


_READERS: dict[Notation, Callable[[str], Iterator[Pairs]]] = {
    Notation.JSON: _json,
    Notation.PRINT_R: _print_r,
    Notation.VAR_DUMP: _var_dump,
    Notation.SERIALIZED: _serialized,
    Notation.QUOTED: _quoted,
    Notation.MAP: _map,
    Notation.GO_MAP: _go_map,
    Notation.LINES: _lines,
}
