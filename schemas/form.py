"""The signed form of the old gateway (mapi) and of the Open Platform (openapi): read strictly, to bytes.

The signature covers percent-decoded *bytes*, so nothing here knows a charset: a GBK sender verifies without any
configuration, and text is made of the bytes later, by whoever needs its meaning (`text`).

The grammar is narrower than what web forms allow, because Alipay sends nothing else and every leniency is somebody's
forgery: printable ASCII only, `&` between pieces, a non-empty name, `=`, a value; `+` is a blank; `%` takes two hex
digits; decoded once. A name occurs once. Nothing is trimmed, repaired or normalised.

Alipay's signed text does not escape `&`. So a value that continues with `&<known name>=` could have been signed as
another set of parameters, and the other way round; `is_ambiguous` finds these, and the receiver refuses them.
"""

import re
from binascii import a2b_qp
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any

from msgspec import Struct

from schemas.dispositions import Refusal

BODY_BYTES_MAX = 64 * 1024  # a genuine notification has about 1 KiB; fund lists make it 3
PARAMETERS_MAX = 200  # the richest documented notification has about 45
NAME_BYTES_MAX = 128
VALUE_BYTES_MAX = 16 * 1024
_LAYOUTS_MAX = 64  # sets of names whose order is remembered; strangers may fill it, with some 25 KiB each

# Every parameter that some notification, Return or envelope of the two form families may carry. A value that holds
# `&<one of these>=` is the text of two parameters as much as of one.
KNOWN_NAMES = frozenset(
    name.encode()
    for name in """
    sign sign_type charset _input_charset version notify_id notify_type notify_time notify_action_type
    app_id auth_app_id seller_id seller_email buyer_id buyer_email buyer_logon_id buyer_open_id
    out_trade_no trade_no trade_status out_biz_no out_request_no
    batch_no success_num result_details success_details fail_details
    subject body passback_params extra_common_param payment_type business_scene price quantity discount
    total_fee total_amount currency receipt_amount invoice_amount buyer_pay_amount point_amount
    refund_fee refund_amount refund_status refund_reason send_back_fee dback_status dback_amount bank_ack_time
    gmt_create gmt_payment gmt_refund gmt_close gmt_logistics_modify
    is_total_fee_adjust use_coupon seller_actions fund_bill_list voucher_detail_list
    agreement_no external_agreement_no alipay_cert_sn method timestamp
    """.split()
)

_PRINTABLE = bytes(range(0x21, 0x7F))
_ALL_BUT_SEPARATORS = _PRINTABLE.translate(None, b"&=")
_ALL_BUT_MARKS = _PRINTABLE.translate(None, b"&=%")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")

# The separators while the rest is decoded: two bytes that no body can hold raw, and that are looked for escaped.
_PIECES, _PAIR = b"\x00", b"\x01"
_TO_QUOTED_PRINTABLE = bytes.maketrans(b"&=+%", _PIECES + _PAIR + b" =")

# What is left of a usual form without all that is printable: its separators, taking turns, and nothing else.
_TAKING_TURNS = b"=&" * PARAMETERS_MAX
_TO_TOKENS = bytes.maketrans(b"&=+%", _PIECES + _PIECES + b" =")
_KNOWN_NAME_IN_VALUE = re.compile(b"&(?:" + b"|".join(sorted(KNOWN_NAMES)) + b")=")


class BadForm(ValueError):
    """The body is not a form in the grammar above; `reason` is one of the malformed `Refusal`s."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Form(Struct, frozen=True, gc=False):
    """One form: its signed parameters in the order received, and the two that the signature leaves out.

    `fields` maps decoded name to decoded value, without `sign` and `sign_type`; those are `None` where absent.
    `has_escaped_ampersand` is true where some value may hold an `&`: only `%26` makes one.
    """

    fields: dict[bytes, bytes]
    sign: bytes | None
    sign_type: bytes | None
    has_escaped_ampersand: bool


def read(body: bytes) -> Form:
    """The form in `body`, decoded once.

    Raises:
        BadForm: the body breaks the grammar, repeats a name, or exceeds a bound above.
    """
    usual = _usual(body)
    return _any(body) if usual is None else usual


def _usual(body: bytes) -> Form | None:
    """A form as Alipay sends them, in half the time; `None` leaves the verdict to `_any`.

    Usual is: names and values take turns, all names are known and occur once, and nothing is near a bound. Then one
    split yields them all. It takes no form that `_any` refuses and reads none otherwise (shown on random bodies).

    What else could be wrong shows in the decoded text. An escape that is whole has become two bytes fewer, and no other
    shrinks as much: quoted-printable leaves a broken one as it is, or drops one byte of it. A separator's stand-in that
    stood there as an escape makes one token more than there are separators. An `&` that is left was an escape.
    """
    marks = body.translate(None, _ALL_BUT_MARKS)
    shape = marks.translate(None, b"%")
    if shape != _TAKING_TURNS[: len(shape)] or not len(shape) & 1 or len(body) > VALUE_BYTES_MAX:
        return None
    decoded = a2b_qp(body.translate(_TO_TOKENS))
    tokens = decoded.split(_PIECES)
    if len(body) - len(decoded) != 2 * (len(marks) - len(shape)) or len(tokens) != len(shape) + 1:
        return None
    names = tokens[::2]
    fields = dict(zip(names, tokens[1::2], strict=True))
    if len(fields) != len(names) or not fields.keys() <= KNOWN_NAMES:
        return None
    return _form(fields, has_escaped_ampersand=b"&" in decoded)


def _any(body: bytes) -> Form:
    if not body or body.translate(None, _PRINTABLE):
        raise BadForm(Refusal.MALFORMED, "the body is empty or holds a byte that is not printable ASCII")
    if _BAD_ESCAPE.search(body) is not None:
        raise BadForm(Refusal.MALFORMED, "a % is not followed by two hex digits")
    pairs = _decoded_pairs(body)
    if len(pairs) > PARAMETERS_MAX:
        raise BadForm(Refusal.TOO_MANY_FIELDS, f"more than {PARAMETERS_MAX} parameters")
    fields: dict[bytes, bytes] = {}
    for name, equals, value in pairs:
        if not name or not equals:
            raise BadForm(Refusal.MALFORMED, "a parameter without a name or without =")
        fields[name] = value
    if len(fields) != len(pairs):
        raise BadForm(Refusal.DUPLICATE_PARAM, "a parameter occurs twice")
    _check_bounds(fields, body)
    return _form(fields, has_escaped_ampersand=b"%26" in body)


def _form(fields: dict[bytes, bytes], *, has_escaped_ampersand: bool) -> Form:
    return Form(fields, fields.pop(b"sign", None), fields.pop(b"sign_type", None), has_escaped_ampersand)


def signed_text(form: Form, *, blanks: bool = False) -> bytes:
    """What the signature covers: `name=value` sorted by name, joined by `&`, without `sign` and `sign_type`.

    Of the empty value there are two customs. Without `blanks` empty values are left out; with it they take part.
    """
    return joined(form, frozenset(form.fields) if blanks else filled(form))


def filled(form: Form) -> frozenset[bytes]:
    """The names of those parameters that have a value."""
    fields = form.fields
    return frozenset([name for name, value in fields.items() if value] if has_blanks(form) else fields)


def joined(form: Form, names: frozenset[bytes]) -> bytes:
    """`name=value` of these parameters, sorted by name, joined by `&`."""
    if not names:
        return b""
    layout, values_of = _layout(names)
    text: bytes = layout % values_of(form.fields)
    return text


@lru_cache(_LAYOUTS_MAX)
def _layout(names: frozenset[bytes]) -> tuple[bytes, Callable[[Mapping[bytes, bytes]], Any]]:
    """The text of these names in their order, with a place for each value, and what gets the values in that order.

    Kept, since Alipay sends few sets of names: to sort and join them anew costs three times as much.
    """
    in_order = sorted(names)
    return b"&".join([name.replace(b"%", b"%%") + b"=%b" for name in in_order]), itemgetter(*in_order)


def has_blanks(form: Form) -> bool:
    """Whether some value is empty, so that the two signed texts differ."""
    return b"" in form.fields.values()


def is_ambiguous(form: Form) -> bool:
    """Whether some value holds `&<known name>=`: the same signed text could have been other parameters."""
    if not form.has_escaped_ampersand:
        return False
    return any(_KNOWN_NAME_IN_VALUE.search(value) is not None for value in form.fields.values() if b"&" in value)


def _decoded_pairs(body: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Name, `=` (or nothing, where it lacks) and value of each piece, decoded.

    Percent-decoding at the speed of C: an escape of quoted-printable is a percent escape with another mark, so the
    whole body is spelled over and decoded in two passes (a fifth of the time that decoding value by value takes). All
    escapes are whole, `read` looked; there are no line ends for quoted-printable's other rules to act on. Only where
    the two stand-ins for the separators occur as escapes does a body take the slow way.
    """
    if b"%00" in body or b"%01" in body:
        slowly = (piece.partition(b"=") for piece in body.split(b"&"))
        return [(_decoded(name), equals, _decoded(value)) for name, equals, value in slowly]
    pairs = [piece.partition(_PAIR) for piece in a2b_qp(body.translate(_TO_QUOTED_PRINTABLE)).split(_PIECES)]
    if body.count(b"=") == len(pairs):
        return pairs
    return [(name, equals, value.replace(_PAIR, b"=")) for name, equals, value in pairs]


def _decoded(text: bytes) -> bytes:
    return a2b_qp(text.translate(_TO_QUOTED_PRINTABLE).replace(_PAIR, b"=3D"))


def _check_bounds(fields: dict[bytes, bytes], body: bytes) -> None:
    if b"".join(fields).translate(None, _ALL_BUT_SEPARATORS):
        raise BadForm(Refusal.MALFORMED, "a parameter's name holds a blank, a control byte, & or =")
    if max(map(len, fields)) > NAME_BYTES_MAX:
        raise BadForm(Refusal.FIELD_TOO_LONG, f"a name of more than {NAME_BYTES_MAX} bytes")
    if len(body) > VALUE_BYTES_MAX and max(map(len, fields.values())) > VALUE_BYTES_MAX:
        raise BadForm(Refusal.FIELD_TOO_LONG, f"a value of more than {VALUE_BYTES_MAX} bytes")
