"""Strict parser for the signed forms of the old gateway (mapi) and the Open Platform (openapi).

The signature covers the percent-decoded *bytes*, so this module does not decode text: a GBK form verifies without any
configuration (`interpret_form.text` decodes).

The grammar is narrower than that of web forms, because Alipay sends nothing else and each leniency could help a forger:
printable ASCII only; `&` between parameters; a non-empty name, `=`, a value; `+` is a blank; `%` and two hex digits is
a byte, decoded once. A name occurs once. Nothing is trimmed, repaired or normalised.

Alipay's signed text does not escape `&`. A value that contains `&<known name>=` therefore has the same signed text as
another set of parameters. `is_ambiguous` finds such forms. They are kept, and have no effect.
"""

import re
from binascii import a2b_qp
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import Any

from msgspec import Struct

from schemas.dispositions import Refusal

# The body limit. A genuine notification has about 1 KiB, with fund lists 3 KiB. These depend on it: `tune.bufsize` in
# deploy/haproxy/haproxy.cfg (body and headers), `maxLength` and the text of 413 in schemas/openapi.yaml, and the
# default of `in_flight_bytes_max` in ingest/settings.py (512 bodies). `RECORD_BYTES_MAX` in workers/record_bounds.py
# and `WIRE_BYTES_MAX` in ingest/http/connection.py follow by themselves. Above 900 KiB also raise `REQUEST_BYTES_MAX`
# in ingest/kafka/producer.py and `max.message.bytes` in schemas/topics.yaml. One value stays limited by
# `VALUE_BYTES_MAX`. The admin API and the simulated Alipay have limits of their own, which need not change.
BODY_BYTES_MAX = 64 * 1024
PARAMETERS_MAX = 200  # the largest documented notification has about 45
NAME_BYTES_MAX = 128
VALUE_BYTES_MAX = 16 * 1024
_LAYOUTS_MAX = 64  # cached sets of names; unauthentic requests can fill the cache, with about 25 KiB for each set

# Values of `notify_type` that can change orders. All others change none.
TRADE_SYNC = b"trade_status_sync"
BATCH_REFUND = b"batch_refund_notify"  # of the old gateway

# Alipay's names: all parameters that a notification, Return or request of the two form families may have. Forms that
# have no others are read faster; in a Return, all others were added on the way. deploy/docs/alipay.md shows this list.
KNOWN_NAMES = frozenset(
    name.encode()
    for name in """
    sign sign_type charset _input_charset version notify_id notify_type notify_time notify_action_type
    app_id auth_app_id seller_id seller_email buyer_id buyer_email buyer_logon_id buyer_open_id
    out_trade_no trade_no trade_status out_biz_no out_request_no
    batch_no success_num result_details success_details fail_details
    subject body passback_params extra_common_param payment_type business_scene price quantity discount
    total_fee total_amount currency trans_currency receipt_amount invoice_amount buyer_pay_amount point_amount
    refund_fee refund_amount refund_status refund_reason send_back_fee dback_status dback_amount bank_ack_time
    gmt_create gmt_payment gmt_refund gmt_close gmt_logistics_modify
    is_total_fee_adjust use_coupon seller_actions fund_bill_list voucher_detail_list
    agreement_no external_agreement_no alipay_cert_sn method timestamp
    partner_id pay_user_id msg_method biz_content utc_timestamp
    service partner notify_url return_url is_success success exterface rmb_fee extend_param agent_user_id bank_seq_no
    receive_name receive_address receive_zip receive_phone receive_mobile logistics_type logistics_fee logistics_payment
    gmt_send_goods pay_user_name pay_account_no unfreezed_deta out_channel_type out_channel_amount out_channel_inst
    product_code status sign_time unsign_time valid_time invalid_time sign_modify_time next_deduct_time sign_scene
    personal_product_code external_logon_id alipay_user_id alipay_open_id alipay_logon_id zm_open_id login_token
    forex_eligible merchant_app_id auth_no out_order_no operation_id operation_type amount gmt_trans pre_auth_type
    payer_user_id payer_open_id payer_logon_id payee_user_id payee_logon_id rest_amount credit_amount fund_amount
    total_freeze_amount total_unfreeze_amount total_pay_amount total_freeze_credit_amount total_freeze_fund_amount
    total_unfreeze_credit_amount total_unfreeze_fund_amount total_pay_credit_amount total_pay_fund_amount
    rest_credit_amount rest_fund_amount msg_type msg_uid msg_app_id app_auth_token discount_amount mdiscount_amount
    charge_amount charge_flags settlement_id settle_amount settle_currency settle_trans_rate trans_pay_rate pay_currency
    pay_amount forex_rate refund_detail_item_list present_refund_buyer_amount present_refund_discount_amount
    present_refund_mdiscount_amount hyb_amount refund_currency discount_goods_detail store_id terminal_id store_name
    auth_trade_pay_mode buyer_user_type periodic_deduct_info async_payment_mode enterprise_pay_info
    """.split()
)

# The parameters that admission or interpretation reads to decide. A value that contains `&<one of these>=` makes the
# form ambiguous. All other parameters are free text or details: they decide nothing.
DECIDING_NAMES = frozenset(
    name.encode()
    for name in """
    sign sign_type charset _input_charset notify_id notify_type notify_action_type notify_time
    app_id auth_app_id seller_id partner_id pay_user_id alipay_cert_sn msg_method biz_content
    out_trade_no trade_no trade_status out_biz_no out_request_no
    batch_no result_details success_details fail_details
    total_fee total_amount currency trans_currency refund_fee refund_amount refund_status
    gmt_payment gmt_refund gmt_close agreement_no external_agreement_no
    """.split()
)

_PRINTABLE = bytes(range(0x21, 0x7F))
_ALL_BUT_SEPARATORS = _PRINTABLE.translate(None, b"&=")
_ALL_BUT_MARKS = _PRINTABLE.translate(None, b"&=%")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")

# Stand-ins for the separators `&` and `=` during decoding. They cannot occur raw in a body; their escapes are checked.
_PIECES, _PAIR = b"\x00", b"\x01"
_TO_QUOTED_PRINTABLE = bytes.maketrans(b"&=+%", _PIECES + _PAIR + b" =")

# The separators of a usual form, alone: `=` and `&` alternate.
_ALTERNATING = b"=&" * PARAMETERS_MAX
_TO_TOKENS = bytes.maketrans(b"&=+%", _PIECES + _PIECES + b" =")
_NAME_IN_VALUE = re.compile(b"&[^&=]+=")
_DECIDING_NAME_IN_VALUE = re.compile(b"&(?:" + b"|".join(sorted(DECIDING_NAMES)) + b")=")
_WHOLE_NAMES = DECIDING_NAMES - {b"biz_content"}


class BadForm(ValueError):
    """The body breaks the grammar above. `reason` is one of the malformed `Refusal`s."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Form(Struct, frozen=True, gc=False):
    """One form: its signed parameters in the order received, and the two that the signature does not cover.

    `fields` maps decoded names to decoded values, without `sign` and `sign_type`, which are `None` if absent.
    `has_escaped_ampersand` is true if a value may contain `&`, which only `%26` can produce.
    """

    fields: dict[bytes, bytes]
    sign: bytes | None
    sign_type: bytes | None
    has_escaped_ampersand: bool


def read(body: bytes) -> Form:
    """Parse a form and decode it once.

    Raises:
        BadForm: the body breaks the grammar, repeats a name, or exceeds a limit above.
    """
    usual = _read_usual(body)
    return _read_any(body) if usual is None else usual


def _read_usual(body: bytes) -> Form | None:
    """Parse a form as Alipay sends it, in half the time of `_read_any`; return `None` if only that can decide.

    In a usual form names and values alternate, all names are known and occur once, and no limit is near, so one split
    yields them all. On every body this returns `None` or the form that `_read_any` returns (a property test).
    """
    marks = body.translate(None, _ALL_BUT_MARKS)
    shape = marks.translate(None, b"%")
    if shape != _ALTERNATING[: len(shape)] or not len(shape) & 1 or len(body) > VALUE_BYTES_MAX:
        return None
    decoded = a2b_qp(body.translate(_TO_TOKENS))
    tokens = decoded.split(_PIECES)
    # A complete escape loses two bytes when decoded. Quoted-printable keeps a broken one or drops one byte, so the
    # lengths show a broken escape. An escaped stand-in makes one token more than there are separators.
    if len(body) - len(decoded) != 2 * (len(marks) - len(shape)) or len(tokens) != len(shape) + 1:
        return None
    names = tokens[::2]
    fields = dict(zip(names, tokens[1::2], strict=True))
    if len(fields) != len(names) or not fields.keys() <= KNOWN_NAMES:
        return None
    return _form(fields, has_escaped_ampersand=b"&" in decoded)  # an `&` that remains was escaped


def _read_any(body: bytes) -> Form:
    if not body or body.translate(None, _PRINTABLE):
        raise BadForm(Refusal.MALFORMED, "the body is empty or contains a byte that is not printable ASCII")
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
    """Return the text that the signature covers: `name=value` sorted by name, joined by `&`, without `sign(_type)`.

    Alipay's products differ in empty values: with `blanks` they are part of the text, without it they are left out.
    """
    fields = form.fields
    if blanks or b"" not in fields.values():
        return joined(form, tuple(fields))
    return joined(form, tuple([name for name, value in fields.items() if value]))


def filled(form: Form) -> frozenset[bytes]:
    """Return the names of the parameters whose value is not empty."""
    fields = form.fields
    return frozenset([name for name, value in fields.items() if value] if has_blanks(form) else fields)


def joined(form: Form, names: frozenset[bytes] | tuple[bytes, ...]) -> bytes:
    """Return `name=value` of these parameters, sorted by name, joined by `&`."""
    if not names:
        return b""
    layout, values_of = _layout(names)
    text: bytes = layout % values_of(form.fields)
    return text


@lru_cache(_LAYOUTS_MAX)
def _layout(names: frozenset[bytes] | tuple[bytes, ...]) -> tuple[bytes, Callable[[Mapping[bytes, bytes]], Any]]:
    """Return a format with the sorted names and a placeholder for each value, and a getter of the values in this order.

    Cached, because Alipay sends few sets of names, each in few orders, and sorting and joining them again takes three
    times as long.
    """
    in_order = sorted(names)
    return b"&".join([name.replace(b"%", b"%%") + b"=%b" for name in in_order]), itemgetter(*in_order)


def has_blanks(form: Form) -> bool:
    """Whether a value is empty, so that the two signed texts differ."""
    return b"" in form.fields.values()


def is_ambiguous(form: Form) -> bool:
    """Return whether other parameters with other effects would have the same signed text.

    That is so if a value contains `&<deciding name>=`, which could be a parameter of its own, or if a deciding value
    contains `&<any name>=`, which could be a parameter that was taken into it. (`biz_content` is JSON, which shows
    where it ends, and may contain addresses with parameters.)
    """
    if not form.has_escaped_ampersand:
        return False
    return any(
        (_NAME_IN_VALUE if name in _WHOLE_NAMES else _DECIDING_NAME_IN_VALUE).search(value) is not None
        for name, value in form.fields.items()
        if b"&" in value
    )


def signature_digest(form: Form) -> bytes:
    """Return a digest of `sign`: the identity of an ambiguous form, because all its spellings have one signature."""
    return blake2b(form.sign or b"", digest_size=16).digest()


def _decoded_pairs(body: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Return name, `=` (empty if it is missing) and value of each parameter, decoded. All escapes must be complete.

    The C decoder of quoted-printable does the work: its escapes are percent escapes with `=` for `%`, so the whole body
    is translated and decoded at once, in a fifth of the time of a decoder called for each value. Its other rules are
    about line ends, which a body cannot contain.
    """
    if b"%00" in body or b"%01" in body:  # the stand-ins for the separators, escaped: decode each value by itself
        pieces = (piece.partition(b"=") for piece in body.split(b"&"))
        return [(_decoded(name), equals, _decoded(value)) for name, equals, value in pieces]
    pairs = [piece.partition(_PAIR) for piece in a2b_qp(body.translate(_TO_QUOTED_PRINTABLE)).split(_PIECES)]
    if body.count(b"=") == len(pairs):
        return pairs
    return [(name, equals, value.replace(_PAIR, b"=")) for name, equals, value in pairs]


def _decoded(text: bytes) -> bytes:
    return a2b_qp(text.translate(_TO_QUOTED_PRINTABLE).replace(_PAIR, b"=3D"))


def _check_bounds(fields: dict[bytes, bytes], body: bytes) -> None:
    if b"".join(fields).translate(None, _ALL_BUT_SEPARATORS):
        raise BadForm(Refusal.MALFORMED, "a parameter's name contains a blank, a control byte, & or =")
    if max(map(len, fields)) > NAME_BYTES_MAX:
        raise BadForm(Refusal.FIELD_TOO_LONG, f"a name of more than {NAME_BYTES_MAX} bytes")
    if len(body) > VALUE_BYTES_MAX and max(map(len, fields.values())) > VALUE_BYTES_MAX:
        raise BadForm(Refusal.FIELD_TOO_LONG, f"a value of more than {VALUE_BYTES_MAX} bytes")
