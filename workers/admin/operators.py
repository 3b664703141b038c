"""The operators of the admin port, each with a token of its own, and the file that has the tokens.

The file has one token alone, whose bearer is not known by name, or one operator a line. Empty lines, and lines that
begin with `#`, do not count:

    # day shift
    alice: 5f1c0a…
    bob@example.com: 9e02d4…

An error names lines, never their content: a line that is written wrong may have its token in any place.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

TOKEN_CHARACTERS_MIN = 16
OPERATORS_MAX = 200

_NAMED = re.compile(r"([^\s:]+)\s*:\s+(\S.*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,59}")


class BadTokens(ValueError):
    """The tokens cannot be used. The message has every fault, and no token."""


class Operator(Struct, frozen=True):
    """An operator. The name is empty if the token has none. The token has no repr."""

    name: str
    token: bytes

    def __repr__(self) -> str:
        return f"Operator(name={self.name!r})"


def read(path: Path) -> tuple[Operator, ...]:
    """Return the operators in a file, at least one.

    Raises:
        BadTokens: the file cannot be read, or has a fault.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadTokens(f"the admin token file {path} cannot be read: {type(error).__name__}") from None
    operators, lines = _parsed(content)
    faults = list(_faults(operators, lines))
    if faults:
        raise BadTokens(f"the admin token file {path} has faults: {'; '.join(faults)}")
    return tuple(operators)


def parse(content: bytes) -> Sequence[Operator]:
    """Return the operators as they are written, faulty ones too: for a client, which leaves the rules to the server.

    Raises:
        UnicodeError: a character is not ASCII.
    """
    content.decode("ascii")
    return _parsed(content)[0]


def of_token(operators: Sequence[Operator], token: bytes) -> Operator | None:
    """Return the operator with this token.

    All are compared, each in constant time and by its digest, so the time shows neither which one matched nor how long
    a token is.
    """
    digest = hashlib.sha256(token).digest()
    found = None
    for each in operators:
        if hmac.compare_digest(hashlib.sha256(each.token).digest(), digest):
            found = each
    return found


def _parsed(content: bytes) -> tuple[list[Operator], list[int]]:
    """Return the operators, and the number of the line of each."""
    numbered = enumerate(content.decode("ascii", "surrogateescape").splitlines(), 1)
    lines = [(number, line.strip()) for number, line in numbered]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    return [_operator(line) for _, line in lines], [number for number, _ in lines]


def _operator(line: str) -> Operator:
    match = _NAMED.fullmatch(line)
    return Operator("", _bytes(line)) if match is None else Operator(match[1], _bytes(match[2]))


def _bytes(text: str) -> bytes:
    return text.encode("ascii", "surrogateescape")


def _faults(operators: Sequence[Operator], lines: Sequence[int]) -> Iterator[str]:
    if not operators:
        yield "it has no token; lines that begin with # are comments"
    if len(operators) > OPERATORS_MAX:
        yield f"it has more than {OPERATORS_MAX} tokens"
        return
    names: dict[str, int] = {}
    tokens: dict[bytes, int] = {}
    for each, line in zip(operators, lines, strict=True):
        text = each.name.encode("ascii", "surrogateescape") + each.token
        if not text.isascii() or not text.decode("ascii").isprintable():
            yield f"line {line} has a character that is not printable ASCII"
        elif each.name and _NAME.fullmatch(each.name) is None:
            yield f"the name in line {line} may have only letters, digits and . _ @ + -, and at most 60 of them"
        elif not each.name and len(operators) > 1:
            yield f"line {line} has no name: write NAME: TOKEN in each line if there are several"
        elif each.name and b" " in each.token:
            yield f"the token in line {line} has a blank in it"
        elif len(each.token) < TOKEN_CHARACTERS_MIN:
            yield f"the token in line {line} is too short: use at least {TOKEN_CHARACTERS_MIN} characters"
        # Names that differ only in capitals are one person to a reader of the audit.
        first = names.setdefault(each.name.lower(), line)
        if each.name and first != line:
            yield f"line {line} has the name of line {first} again"
        first = tokens.setdefault(each.token, line)
        if first != line:
            yield f"line {line} has the token of line {first} again: give each operator another one"
