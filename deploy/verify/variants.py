"""Changes that happen to a signed message between Alipay and the verifier, each as a text or signature to try.

Parsing here is lenient on purpose, so only `deploy.verify.explain` may use it, and nothing that accepts messages: a
message that verifies under a variant is still refused.
"""

import html
import json
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import combinations, product
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from schemas.form import KNOWN_NAMES, NAME_BYTES_MAX

Pairs = list[tuple[bytes, bytes]]

_ONE_AT_A_TIME_MAX = 64  # parameters; the largest documented notification has about 45
_ADDED_MAX = 16
_TIME = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?")
_FREE_TEXT = frozenset(
    {b"subject", b"body", b"passback_params", b"extra_common_param", b"refund_reason", b"store_name"}
)
_SLASHED = re.compile(rb"\\(['\"\\])")


class Variant(StrEnum):
    """One change to the signed text, the signature, the algorithm or the key."""

    # forms: the body
    BODY_TRIMMED = "body_trimmed"
    BODY_UNESCAPED = "body_unescaped"
    NOT_DECODED = "not_decoded"
    DECODED_TWICE = "decoded_twice"
    QUERY_INCLUDED = "query_included"
    # forms: the values
    VALUES_TRIMMED = "values_trimmed"
    VALUES_UNESCAPED = "values_unescaped"
    PLUS_TO_BLANK = "plus_to_blank"
    UTF8_TO_GBK = "utf8_to_gbk"
    GBK_TO_UTF8 = "gbk_to_utf8"
    LATIN1 = "latin1"
    BLANK_TO_PLUS = "blank_to_plus"
    BLANK_CUT = "blank_cut"
    LINE_ENDS = "line_ends"
    SLASHES_ADDED = "slashes_added"
    ESCAPES_DECODED = "escapes_decoded"
    # forms: the parameters
    PARAMETER_ADDED = "parameter_added"
    PARAMETER_DROPPED = "parameter_dropped"
    # forms: the signed text
    SIGN_TYPE_KEPT = "sign_type_kept"
    CERT_SN_DROPPED = "cert_sn_dropped"
    ORIGINAL_ORDER = "original_order"
    # antom
    PATH_OF_REQUEST = "path_of_request"
    PATH_WITH_QUERY = "path_with_query"
    TRAILING_SLASH = "trailing_slash"
    BODY_COMPACTED = "body_compacted"
    BODY_SPACED = "body_spaced"
    # the signature
    SIGN_BLANK_TO_PLUS = "sign_blank_to_plus"
    SIGN_DECODED_AGAIN = "sign_decoded_again"
    SIGN_WHITESPACE = "sign_whitespace"
    SIGN_URL_SAFE = "sign_url_safe"
    SIGN_UNPADDED = "sign_unpadded"
    SIGN_UPPER_CASE = "sign_upper_case"
    # algorithm and keys
    OTHER_HASH = "other_hash"
    OTHER_KEY_OF_ACCOUNT = "other_key_of_account"
    KEY_OF_OTHER_ACCOUNT = "key_of_other_account"
    GIVEN_KEY = "given_key"
    KEY_OF_OTHER_ALGORITHM = "key_of_other_algorithm"
    UNLISTED_KEY = "unlisted_key"


class Text(Struct, frozen=True):
    """A text that may have been signed; `variant` is `None` for the canonical one.

    `names` are the parameters that the change is about, if it is not about all of them.
    """

    variant: Variant | None
    text: bytes
    names: tuple[str, ...] = ()


class Sign(Struct, frozen=True):
    """A spelling of the signature; `variant` is `None` for the one received."""

    variant: Variant | None
    sign: bytes


def pairs_of(body: bytes) -> Pairs:
    """Return names and values of a form body, decoded once, in the order received. Never raises."""
    return [(_decoded(name), _decoded(value)) for name, value in _pieces(body)]


def fields_with_sign(body: bytes) -> dict[bytes, bytes]:
    """Return the parameters of a body, also if HTML escaping has turned `sign` into `amp;sign`."""
    fields = dict(pairs_of(body.strip()))
    return fields if b"sign" in fields else dict(pairs_of(_unescaped(body).strip()))


def form_texts(body: bytes, query: bytes = b"", likely: Pairs | None = None) -> Iterator[Text]:
    """Yield the texts that a form may have been signed as: the canonical texts, then one change at a time.

    `likely` are parameters that Alipay would have sent, if they are missing.
    """
    pairs = pairs_of(body)
    yield from _both(None, pairs)
    for variant, changed in _changed_bodies(body, query):
        yield from _both(variant, changed)
    for variant, change in _VALUE_CHANGES.items():
        yield from _both(variant, [(name, change(value)) for name, value in pairs])
    yield from _both(Variant.SIGN_TYPE_KEPT, pairs, left_out=(b"sign",))
    yield from _both(Variant.CERT_SN_DROPPED, pairs, left_out=(b"sign", b"sign_type", b"alipay_cert_sn"))
    yield from _both(Variant.ORIGINAL_ORDER, pairs, is_sorted=False)
    yield from _without_added(pairs)
    yield from _with_dropped(pairs, likely)
    for variant, one_changes in _ONE_VALUE_CHANGES.items():
        yield from _one_changed(variant, pairs, one_changes)


def antom_texts(body: bytes, *, path: bytes, target: bytes, client_id: bytes, request_time: bytes) -> Iterator[Text]:
    """Yield the texts that an Antom message may have been signed as."""

    def text(path: bytes, body: bytes) -> bytes:
        return b"POST " + path + b"\n" + client_id + b"." + request_time + b"." + body

    yield Text(None, text(path, body))
    bare, _, query = target.partition(b"?")
    other_slash = path.rstrip(b"/") if path.endswith(b"/") else path + b"/"
    yield Text(Variant.TRAILING_SLASH, text(other_slash, body))
    if bare:
        yield Text(Variant.PATH_OF_REQUEST, text(bare, body))
    if query:
        yield Text(Variant.PATH_WITH_QUERY, text(path + b"?" + query, body))
        yield Text(Variant.PATH_WITH_QUERY, text(target, body))
    yield Text(Variant.BODY_TRIMMED, text(path, body.strip()))
    for variant, changed in _reserialised(body):
        yield Text(variant, text(path, changed))


def signs(sign: bytes) -> Iterator[Sign]:
    """Yield the signature as received, then as it may have been before it was re-encoded."""
    yield Sign(None, sign)
    stripped = b"".join(sign.split())
    yield Sign(Variant.SIGN_BLANK_TO_PLUS, sign.replace(b" ", b"+"))
    yield Sign(Variant.SIGN_DECODED_AGAIN, unquote_to_bytes(sign))
    yield Sign(Variant.SIGN_WHITESPACE, stripped)
    yield Sign(Variant.SIGN_URL_SAFE, sign.replace(b"-", b"+").replace(b"_", b"/"))
    yield Sign(Variant.SIGN_UNPADDED, sign + b"=" * (-len(sign) % 4))
    yield Sign(Variant.SIGN_UPPER_CASE, sign.lower())


def _pieces(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    for piece in body.split(b"&"):
        name, _, value = piece.partition(b"=")
        if piece:
            yield name, value


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _both(
    variant: Variant | None,
    pairs: Pairs,
    *,
    left_out: tuple[bytes, ...] = (b"sign", b"sign_type"),
    is_sorted: bool = True,
    names: tuple[str, ...] = (),
) -> Iterator[Text]:
    """Yield the text without empty values and, if there are any, the text with them."""
    kept = [pair for pair in pairs if pair[0] not in left_out]
    if is_sorted:
        kept.sort()
    filled = [pair for pair in kept if pair[1]]
    yield Text(variant, _joined(filled), names)
    if len(filled) < len(kept):
        yield Text(variant, _joined(kept), names)


def _without_added(pairs: Pairs) -> Iterator[Text]:
    """Yield the text without all names that are none of Alipay's, then without one parameter, then without all but one.

    A parameter without `=` was added too, for example a path in front of a query.
    """
    signature = (b"sign", b"sign_type")
    added = [position for position, (name, _) in enumerate(pairs) if name not in KNOWN_NAMES]
    choices = [added] if added else []
    choices += [[each] for each, (name, _) in enumerate(pairs[:_ONE_AT_A_TIME_MAX]) if name not in signature]
    if 2 < len(added) <= _ADDED_MAX:
        choices += [[other for other in added if other != each] for each in added]
    for left_out in choices:
        rest = [pair for position, pair in enumerate(pairs) if position not in left_out]
        yield from _both(Variant.PARAMETER_ADDED, rest, names=_texts_of(tuple(pairs[each][0] for each in left_out)))


def _with_dropped(pairs: Pairs, likely: Pairs | None) -> Iterator[Text]:
    names = {name for name, _ in pairs}
    missing = [pair for pair in likely or [] if pair[0] not in names]
    for each in missing:
        yield from _both(Variant.PARAMETER_DROPPED, [*pairs, each], names=_texts_of(each[:1]))
    for first, second in combinations(missing, 2):
        if first[0] != second[0]:
            yield from _both(Variant.PARAMETER_DROPPED, [*pairs, first, second], names=_texts_of((first[0], second[0])))


def _one_changed(variant: Variant, pairs: Pairs, changes: tuple[Callable[[bytes], bytes], ...]) -> Iterator[Text]:
    """Yield the text with one value changed, for each value that the change concerns."""
    for position, (name, value) in enumerate(pairs[:_ONE_AT_A_TIME_MAX]):
        if name in (b"sign", b"sign_type") or (variant is Variant.BLANK_CUT and name not in _FREE_TEXT):
            continue
        for change in changes:
            if change(value) != value:
                changed = [*pairs[:position], (name, change(value)), *pairs[position + 1 :]]
                yield from _both(variant, changed, names=_texts_of((name,)))


def _texts_of(names: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name[:NAME_BYTES_MAX].decode("utf-8", "backslashreplace") for name in names))


def _joined(pairs: Pairs) -> bytes:
    return b"&".join(name + b"=" + value for name, value in pairs)


def _changed_bodies(body: bytes, query: bytes) -> Iterator[tuple[Variant, Pairs]]:
    yield Variant.BODY_TRIMMED, pairs_of(body.strip())
    yield Variant.BODY_UNESCAPED, pairs_of(_unescaped(body))
    yield Variant.NOT_DECODED, list(_pieces(body))
    yield Variant.DECODED_TWICE, [(_decoded(name), _decoded(value)) for name, value in pairs_of(body)]
    if query:
        yield Variant.QUERY_INCLUDED, pairs_of(body + b"&" + query)


def _unescaped(text: bytes) -> bytes:
    return html.unescape(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _recoded(read_as: str, written_as: str) -> Callable[[bytes], bytes]:
    def recode(value: bytes) -> bytes:
        try:
            return value.decode(read_as).encode(written_as)
        except UnicodeError:
            return value

    return recode


_VALUE_CHANGES: dict[Variant, Callable[[bytes], bytes]] = {
    Variant.VALUES_TRIMMED: bytes.strip,
    Variant.VALUES_UNESCAPED: _unescaped,
    Variant.PLUS_TO_BLANK: lambda value: value.replace(b"+", b" "),
    Variant.UTF8_TO_GBK: _recoded("utf-8", "gb18030"),
    Variant.GBK_TO_UTF8: _recoded("gb18030", "utf-8"),
    Variant.LATIN1: _recoded("utf-8", "latin-1"),
    Variant.BLANK_TO_PLUS: lambda value: value if _TIME.fullmatch(value) else value.replace(b" ", b"+"),
    Variant.LINE_ENDS: lambda value: b"\r\n".join(value.splitlines()) if b"\n" in value else value,
    Variant.SLASHES_ADDED: lambda value: _SLASHED.sub(rb"\1", value),
    Variant.ESCAPES_DECODED: lambda value: value.replace(b'"', b"&quot;"),
}
_ONE_VALUE_CHANGES: dict[Variant, tuple[Callable[[bytes], bytes], ...]] = {
    Variant.BLANK_TO_PLUS: (lambda value: value if _TIME.fullmatch(value) else value.replace(b" ", b"+"),),
    Variant.BLANK_CUT: (
        lambda value: value + b" ",
        lambda value: b" " + value,
        lambda value: value + b"\n",
        lambda value: value + b"\r\n",
    ),
    Variant.LINE_ENDS: (lambda value: value.replace(b"\r\n", b"\n"),),
}


def _reserialised(body: bytes) -> Iterator[tuple[Variant, bytes]]:
    """Yield the body as common JSON writers would write it, with its members in their order or sorted."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return
    for is_ascii, is_sorted in product((False, True), repeat=2):
        compact = json.dumps(message, separators=(",", ":"), ensure_ascii=is_ascii, sort_keys=is_sorted)
        spaced = json.dumps(message, ensure_ascii=is_ascii, sort_keys=is_sorted)
        yield Variant.BODY_COMPACTED, compact.encode("utf-8", "replace")
        yield Variant.BODY_SPACED, spaced.encode("utf-8", "replace")
        yield Variant.BODY_COMPACTED, compact.replace("/", "\\/").encode("utf-8", "replace")  # as PHP writes it
