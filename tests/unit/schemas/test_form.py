"""The form parser: grammar, limits, signed text, and ambiguous forms."""

import random
import re
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import form as forms
from schemas.dispositions import Refusal
from tests.support import alipay


def refusal_of(body: bytes) -> Refusal:
    with pytest.raises(forms.BadForm) as caught:
        forms.read(body)
    return caught.value.reason


def test_form_is_decoded_once_to_bytes() -> None:
    form = forms.read(b"subject=a%2Bb+c%2526&body=%D6%D0&sign=x%2By&sign_type=RSA")
    assert form.fields == {b"subject": b"a+b c%26", b"body": b"\xd6\xd0"}
    assert (form.sign, form.sign_type) == (b"x+y", b"RSA")


def test_first_equals_sign_separates_and_later_ones_belong_to_the_value() -> None:
    assert forms.read(b"a=b=c&d==").fields == {b"a": b"b=c", b"d": b"="}


def test_semicolon_is_no_separator() -> None:
    assert forms.read(b"a=1;b=2").fields == {b"a": b"1;b=2"}


@pytest.mark.parametrize("escape", ["%00", "%01", "%0a", "%0D", "%3d", "%26", "%25", "%2b", "%20", "%ff", "%e4%b8%ad"])
def test_all_escapes_are_decoded_in_values(escape: str) -> None:
    from urllib.parse import unquote_to_bytes

    body = f"a=x{escape}y&b=%01{escape}=&c=3".encode()
    raw = unquote_to_bytes(escape)
    assert forms.read(body).fields == {b"a": b"x" + raw + b"y", b"b": b"\x01" + raw + b"=", b"c": b"3"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"a",
        b"=c",
        b"a=1&",
        b"&a=1",
        b"a=1&&b=2",
        b"a=1&b",
        b"a=%zz",
        b"a=%",
        b"a=%4",
        b"a=%%41",
        b"a=1\n",
        b"a=1\r\n",
        b" a=1",
        b"a=b c",
        b"a=\xff",
        b"\xef\xbb\xbfa=1",
        b"%EF%BB%BFa=1",
        b"a=\x00",
        b"a=\x7f",
        b"a+b=1",
        b"a%26=1",
        b"a%3d=1",
        b"a%00=1",
        b"a%01=1",
        b"a%0a=1",
        b"%20=1",
    ],
)
def test_body_that_breaks_the_grammar_is_malformed(body: bytes) -> None:
    assert refusal_of(body) is Refusal.MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        b"total_amount=0.01&total_amount=99",
        b"a=1&a=1",
        b"sign=good&a=1&sign=bad",
        b"sign_type=RSA2&sign_type=MD5",
        b"total_amount=1&total%5Famount=2",
        b"a=1&%61=%01",
    ],
)
def test_repeated_name_is_refused_after_decoding(body: bytes) -> None:
    assert refusal_of(body) is Refusal.DUPLICATE_PARAM


def test_names_are_compared_byte_for_byte() -> None:
    assert set(forms.read(b"a=1&A=2&a.=3&a[]=4").fields) == {b"a", b"A", b"a.", b"a[]"}


def test_limits_are_exact() -> None:
    assert len(forms.read(b"&".join(b"p%d=" % n for n in range(200))).fields) == 200
    assert refusal_of(b"&".join(b"p%d=" % n for n in range(201))) is Refusal.TOO_MANY_FIELDS
    assert forms.read(b"n" * 128 + b"=1").fields
    assert refusal_of(b"n" * 129 + b"=1") is Refusal.FIELD_TOO_LONG
    assert forms.read(b"a=" + b"v" * 16384).fields
    assert refusal_of(b"a=" + b"v" * 16385) is Refusal.FIELD_TOO_LONG
    assert refusal_of(b"b=1&a=" + b"%41" * 16385) is Refusal.FIELD_TOO_LONG


def test_limits_count_decoded_bytes() -> None:
    assert forms.read(b"%6E" * 128 + b"=" + b"%41" * 16384).fields


def test_signed_text_is_sorted_by_bytes_and_excludes_sign_and_sign_type() -> None:
    form = forms.read(b"b=2&sign=s&a_b=4&a=1&B=3&sign_type=RSA&aa=5")
    assert forms.signed_text(form) == b"B=3&a=1&a_b=4&aa=5&b=2"


def test_signed_text_includes_or_omits_exactly_the_empty_values() -> None:
    form = forms.read(b"a=&b=0&c=null&d=+&e=false&f=")
    assert forms.has_blanks(form)
    assert forms.signed_text(form) == b"b=0&c=null&d= &e=false"
    assert forms.signed_text(form, blanks=True) == b"a=&b=0&c=null&d= &e=false&f="
    assert not forms.has_blanks(forms.read(b"a=1"))


@given(st.dictionaries(st.sampled_from([b"a", b"b%", b"%b", b"c%%s", b"B"]), st.binary(max_size=4)), st.booleans())
def test_signed_text_of_any_form_equals_sorting_and_joining(fields: dict[bytes, bytes], blanks: bool) -> None:
    form = forms.Form(fields, sign=None, sign_type=None, has_escaped_ampersand=False)
    kept = [name + b"=" + value for name, value in sorted(fields.items()) if value or blanks]
    assert forms.signed_text(form, blanks=blanks) == b"&".join(kept)


@pytest.mark.parametrize("name", sorted(forms.DECIDING_NAMES))
def test_value_containing_a_deciding_name_as_parameter_is_ambiguous(name: bytes) -> None:
    assert forms.is_ambiguous(forms.read(b"zz=x%26" + name + b"%3D1"))
    assert forms.is_ambiguous(forms.read(b"zz=%26" + name + b"=1"))


@pytest.mark.parametrize("name", sorted(forms.KNOWN_NAMES - forms.DECIDING_NAMES))
def test_value_containing_another_name_as_parameter_is_unambiguous(name: bytes) -> None:
    assert not forms.is_ambiguous(forms.read(b"passback_params=uid%3D5%26" + name + b"%3Dabc"))


@pytest.mark.parametrize(
    "value",
    [
        "a&b=c",
        "a & total_amount",
        "a&total_amount",
        "&Total_Amount=1",
        "&total_amount2=1",
        "&xtotal_amount=1",
        "&amp;x=1",
    ],
)
def test_other_ampersands_in_a_value_are_unambiguous(value: str) -> None:
    assert not forms.is_ambiguous(forms.read(b"subject=" + quote(value, safe="").encode()))


@pytest.mark.parametrize("name", sorted(forms.DECIDING_NAMES - {b"sign", b"sign_type", b"biz_content"}))
def test_deciding_value_that_contains_a_parameter_is_ambiguous(name: bytes) -> None:
    assert forms.is_ambiguous(forms.read(name + b"=A%26payment_type%3D1"))
    assert not forms.is_ambiguous(forms.read(name + b"=A%26payment_type"))


def test_json_of_a_message_may_contain_other_parameters() -> None:
    assert not forms.is_ambiguous(forms.read(b"biz_content=%7B%22url%22:%22?a%3D1%26b%3D2%22%7D"))


def test_known_names_as_parameters_are_unambiguous() -> None:
    assert not forms.is_ambiguous(forms.read(b"subject=S&total_amount=1"))


def test_forms_with_equal_signed_text_but_other_parameters_are_both_ambiguous() -> None:
    genuine = forms.read(alipay.urlencoded({"subject": "S&total_amount=9999.00&trade_aaa=", "total_amount": "0.01"}))
    resplit = forms.read(
        alipay.urlencoded({"subject": "S", "total_amount": "9999.00", "trade_aaa": "&total_amount=0.01"})
    )
    assert forms.signed_text(genuine) == forms.signed_text(resplit)
    assert forms.is_ambiguous(genuine)
    assert forms.is_ambiguous(resplit)


def read_by_the_book(body: bytes) -> dict[bytes, bytes] | None:
    """The grammar once more, character by character."""
    if not body or any(not 0x21 <= byte <= 0x7E for byte in body):
        return None
    fields: dict[bytes, bytes] = {}
    for piece in body.decode("ascii").split("&"):
        match = re.fullmatch(r"([^=]+)=(.*)", piece)
        if match is None:
            return None
        name, value = _by_the_book(match[1]), _by_the_book(match[2])
        if name is None or value is None or name in fields:
            return None
        if any(not 0x21 <= byte <= 0x7E or byte in b"&=" for byte in name):
            return None
        fields[name] = value
    return fields


def _by_the_book(text: str) -> bytes | None:
    decoded, position = bytearray(), 0
    while position < len(text):
        if text[position] == "%":
            digits = text[position + 1 : position + 3]
            if len(digits) != 2 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
                return None
            decoded.append(int(digits, 16))
            position += 3
        else:
            decoded.append(0x20 if text[position] == "+" else ord(text[position]))
            position += 1
    return bytes(decoded)


BROKEN = st.text(st.sampled_from("ab&=+%;0124dDfF56 \r\n\x00\x01\x7f_.[]~!"), max_size=40).map(
    lambda text: text.encode()
)
ESCAPES = [
    "%00",
    "%01",
    "%26",
    "%3D",
    "%3d",
    "%25",
    "%2B",
    "%0A",
    "%0D",
    "%FF",
    "%7F",
    "%20",
    "=",
    "+",
    "a",
    "0",
    ".",
    "_",
]
VALUES = st.lists(st.sampled_from(ESCAPES), max_size=6).map("".join)
NEARLY_RIGHT = st.lists(
    st.tuples(st.sampled_from(["a", "b", "%61", "sign", "c%5F", "d%01", "e%20"]), VALUES), max_size=5
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode())


@given(st.one_of(BROKEN, NEARLY_RIGHT, st.binary(max_size=20)))
@example(b"a=%01&b=1")
@example(b"a=%00=b")
@example(b"a==%3D&b=\x01")
def test_independent_parser_agrees_on_every_input(body: bytes) -> None:
    expected = read_by_the_book(body)
    try:
        form = forms.read(body)
    except forms.BadForm:
        assert expected is None
        return
    found = dict(form.fields)
    found |= {b"sign": form.sign} if form.sign is not None else {}
    found |= {b"sign_type": form.sign_type} if form.sign_type is not None else {}
    assert found == expected


@given(st.dictionaries(st.sampled_from(["a", "b_c", "subject", "sign", "x.y[]"]), st.binary(max_size=30), min_size=1))
def test_forms_encoded_by_urllib_are_parsed_back(params: dict[str, bytes]) -> None:
    form = forms.read(alipay.urlencoded(params))
    assert form.fields == {name.encode(): value for name, value in params.items() if name != "sign"}
    assert form.sign == params.get("sign")
    assert form.has_escaped_ampersand == any(b"&" in value for value in params.values())


def test_exactly_the_printable_characters_may_stand_raw_in_a_value() -> None:
    raw = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"&%+")
    assert forms.read(b"a=" + raw).fields == {b"a": raw}
    for byte in (0x20, 0x7F, 0x00, 0x1F, 0x80):
        assert refusal_of(b"a=" + bytes([byte])) is Refusal.MALFORMED


def test_fast_parser_returns_nothing_or_the_form_of_the_strict_parser() -> None:
    """Random bodies around the grammar: if the fast parser returns a form, the strict one returns the same."""
    chance = random.Random(11)
    names = (b"sign", b"sign_type", b"a", b"total_fee", b"subject", b"body", b"x%41", b"sub%6aect", b"")
    quick = 0
    for _ in range(60_000):
        pairs = [
            chance.choice(names)
            + (b"=" if chance.random() < 0.98 else b"")
            + bytes(chance.choice(b"%%%=&+_.aA0112f9~!") for _ in range(chance.randrange(10)))
            for _ in range(chance.randrange(1, 6))
        ]
        body = b"&".join(pairs)
        found = forms._read_usual(body)
        if found is not None:
            quick += 1
            assert forms._read_any(body) == found, body
    assert quick > 1000
