"""Valid signatures are attributed to their key, and every near miss is refused."""

import base64
import itertools
from typing import Any, cast
from urllib.parse import quote, quote_plus

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from ingest import signature
from ingest.errors import Malformed, Refused, Unauthentic
from ingest.keys import Key, KeyRing
from schemas import form as forms
from schemas.accounts import SignType
from schemas.dispositions import Refusal
from tests.support import alipay

PAYMENT: dict[str, str | bytes] = {
    "notify_type": "trade_status_sync",
    "out_trade_no": "APP-1",
    "total_fee": "25.80",
    "subject": "港式奶茶 x2 + 礼盒 & 10% = ok",
    "trade_status": "TRADE_SUCCESS",
}
TEXT = alipay.canonical(PAYMENT)

ALGORITHMS: dict[SignType, alipay.Signer] = {
    SignType.RSA: alipay.rsa_key(bits=1024),
    SignType.RSA2: alipay.rsa_key(),
    SignType.DSA: alipay.dsa_key(),
    SignType.MD5: alipay.MD5_SECRET,
}
RSA2 = alipay.ring(SignType.RSA2, alipay.rsa_key())
MD5 = alipay.ring(SignType.MD5, alipay.MD5_SECRET)
DSA = alipay.ring(SignType.DSA, alipay.dsa_key())


def verify(params: dict[str, str | bytes], ring: KeyRing) -> str:
    return signature.verify_form(forms.read(alipay.urlencoded(params)), ring)


def refusal(params: dict[str, str | bytes], ring: KeyRing) -> Refusal:
    with pytest.raises(Unauthentic) as caught:
        verify(params, ring)
    return caught.value.reason


def with_sign(sign: str | bytes, sign_type: str = "RSA2") -> dict[str, str | bytes]:
    return {**PAYMENT, "sign_type": sign_type, "sign": sign}


def right_sign(sign_type: SignType = SignType.RSA2) -> str:
    return alipay.signature(TEXT, ALGORITHMS[sign_type], sign_type.value)


@pytest.mark.parametrize("sign_type", ALGORITHMS)
def test_form_is_verified_with_each_algorithm(sign_type: SignType) -> None:
    signer = ALGORITHMS[sign_type]
    assert verify(alipay.signed(PAYMENT, signer, sign_type.value), alipay.ring(sign_type, signer)) == "k0"


@pytest.mark.parametrize("sign_type", ALGORITHMS)
def test_any_changed_value_name_or_parameter_set_is_refused(sign_type: SignType) -> None:
    ring = alipay.ring(sign_type, ALGORITHMS[sign_type])
    genuine = alipay.signed(PAYMENT, ALGORITHMS[sign_type], sign_type.value)
    renamed = {("Total_Fee" if name == "total_fee" else name): value for name, value in genuine.items()}
    without = {name: value for name, value in genuine.items() if name != "total_fee"}
    for changed in ({**genuine, "total_fee": "25.81"}, {**genuine, "extra": "1"}, renamed, without):
        assert refusal(changed, ring) is Refusal.BAD_SIGNATURE


def test_gbk_form_verifies_without_a_configured_charset() -> None:
    body = alipay.form(PAYMENT, alipay.rsa_key(), "RSA2", charset="gbk")
    assert signature.verify_form(forms.read(body), RSA2) == "k0"


def test_c14_order_of_parameters_does_not_matter() -> None:
    genuine = list(alipay.signed(PAYMENT, alipay.rsa_key(), "RSA2").items())
    for order in itertools.islice(itertools.permutations(genuine), 0, 5040, 101):
        assert verify(dict(order), RSA2) == "k0"


@pytest.mark.parametrize("blanks", [True, False], ids=["signed_with_them", "signed_without_them"])
def test_c16_empty_values_may_be_signed_or_not(blanks: bool) -> None:
    params = {**PAYMENT, "buyer_logon_id": ""}
    assert verify(alipay.signed(params, alipay.rsa_key(), "RSA2", blanks=blanks), RSA2) == "k0"


def test_one_of_two_empty_values_alone_cannot_be_signed() -> None:
    sign = alipay.signature(alipay.canonical({**PAYMENT, "a": ""}), alipay.rsa_key(), "RSA2")
    assert refusal({**with_sign(sign), "a": "", "b": ""}, RSA2) is Refusal.BAD_SIGNATURE


def test_c18_signed_text_with_sign_type_is_refused() -> None:
    text = b"&".join(sorted([*TEXT.split(b"&"), b"sign_type=RSA2"]))
    sign = alipay.signature(text, alipay.rsa_key(), "RSA2")
    assert refusal(with_sign(sign), RSA2) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("name", ["sign[]", "sign[0]", "sign.x", "Sign", "SIGN"])
def test_c05_c06_sign_under_another_name_is_missing(name: str) -> None:
    assert refusal({**PAYMENT, "sign_type": "RSA2", name: right_sign()}, RSA2) is Refusal.MISSING_SIGN


def test_c19_form_separated_by_semicolons_has_no_sign() -> None:
    body = alipay.form(PAYMENT, alipay.rsa_key(), "RSA2").replace(b"&", b";")
    with pytest.raises(Unauthentic) as caught:
        signature.verify_form(forms.read(body), RSA2)
    assert caught.value.reason is Refusal.MISSING_SIGN


def test_s01_s02_absent_or_empty_sign_is_missing() -> None:
    assert refusal({**PAYMENT, "sign_type": "RSA2"}, RSA2) is Refusal.MISSING_SIGN
    assert refusal(with_sign(""), RSA2) is Refusal.MISSING_SIGN
    assert refusal(with_sign("", "MD5"), MD5) is Refusal.MISSING_SIGN


@pytest.mark.parametrize("sign", [" ", "null", "undefined", "0", "not base64!!", "é签", "====", "\x00"])
@pytest.mark.parametrize("ring", [RSA2, MD5, DSA], ids=["RSA2", "MD5", "DSA"])
def test_s02_s03_s04_invalid_encodings_are_bad_signatures(sign: str, ring: KeyRing) -> None:
    assert refusal(with_sign(sign, ring.sign_type.value), ring) is Refusal.BAD_SIGNATURE


RIGHT = right_sign()
RAW = base64.b64decode(RIGHT)
RESPELLED = {
    "junk": RIGHT[:20] + "!" + RIGHT[20:],
    "blank": RIGHT[:20] + " " + RIGHT[20:],
    "newline": RIGHT[:76] + "\n" + RIGHT[76:],
    "newline_at_end": RIGHT + "\n",
    "blank_before": " " + RIGHT,
    "unpadded": RIGHT.rstrip("="),
    "one_pad": RIGHT[:-1],
    "more_padding": RIGHT + "=",
    "four_more_pads": RIGHT + "====",
    "appended": RIGHT + "AAAA",
    "truncated": base64.b64encode(RAW[:-1]).decode(),
    "leading_zero": base64.b64encode(b"\x00" + RAW).decode(),
    "trailing_zero": base64.b64encode(RAW + b"\x00").decode(),
    "doubled": base64.b64encode(RAW + RAW).decode(),
    "bit_flipped": base64.b64encode(RAW[:100] + bytes([RAW[100] ^ 1]) + RAW[101:]).decode(),
    "plus_as_blank": RIGHT.replace("+", " ") if "+" in RIGHT else " " + RIGHT[1:],
    "percent_encoded_again": quote_plus(RIGHT),
}


@pytest.mark.parametrize("spelling", RESPELLED)
def test_s05_s07_s08_signature_has_exactly_one_encoding(spelling: str) -> None:
    assert RESPELLED[spelling] != RIGHT
    assert refusal(with_sign(RESPELLED[spelling]), RSA2) is Refusal.BAD_SIGNATURE


def test_s07_url_safe_base64_is_refused() -> None:
    for number in range(50):
        params = {**PAYMENT, "body": str(number)}
        sign = alipay.signature(alipay.canonical(params), alipay.rsa_key(), "RSA2")
        if "+" in sign and "/" in sign:
            break
    for respelled in (sign.replace("+", "-"), sign.replace("/", "_"), sign.replace("+", "-").replace("/", "_")):
        assert refusal({**params, "sign_type": "RSA2", "sign": respelled}, RSA2) is Refusal.BAD_SIGNATURE


def test_s07_unused_bits_of_the_last_character_must_be_zero() -> None:
    # 256 bytes end in two characters that carry 8 bits in 12: four of them could be anything for a lenient decoder.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet.index(RIGHT[-3])
    sibling = RIGHT[:-3] + alphabet[last | 1] + "=="
    assert base64.b64decode(sibling) == RAW
    assert sibling != RIGHT
    assert refusal(with_sign(sibling), RSA2) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize(
    "sign_type", ["", "MD5", "RSA", "rsa2", "RSA2 ", " RSA2", "none", "HS256", "RSA256", "DSA", "RSA2\x00"]
)
def test_s10_s11_s14_s17_sign_type_must_be_exactly_the_account_s(sign_type: str) -> None:
    assert refusal(with_sign(RIGHT, sign_type), RSA2) is Refusal.UNSUPPORTED_SIGN_TYPE


def test_s10_absent_sign_type_is_refused() -> None:
    assert refusal({**PAYMENT, "sign": RIGHT}, RSA2) is Refusal.UNSUPPORTED_SIGN_TYPE


def test_s14_valid_signature_with_a_weaker_hash_is_refused() -> None:
    weaker = alipay.signature(TEXT, alipay.rsa_key(), "RSA")
    assert refusal(with_sign(weaker, "RSA"), RSA2) is Refusal.UNSUPPORTED_SIGN_TYPE
    assert refusal(with_sign(weaker, "RSA2"), RSA2) is Refusal.BAD_SIGNATURE


def test_s16_stronger_hash_under_a_weaker_name_is_refused() -> None:
    ring = alipay.ring(SignType.RSA, alipay.rsa_key())
    assert refusal(with_sign(RIGHT, "RSA"), ring) is Refusal.BAD_SIGNATURE


def test_s11_s14_signature_with_another_padding_is_refused() -> None:
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    sign = base64.b64encode(alipay.rsa_key().sign(TEXT, pss, hashes.SHA256())).decode()
    assert refusal(with_sign(sign), RSA2) is Refusal.BAD_SIGNATURE


SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def encrypted(message: bytes, key: rsa.RSAPrivateKey) -> str:
    """The raw private operation on a padded message of one's own making."""
    numbers = key.private_numbers()
    number = pow(int.from_bytes(message), numbers.d, numbers.public_numbers.n)
    return base64.b64encode(number.to_bytes(256)).decode()


def padded(tail: bytes, *, marker: bytes = b"\x00\x01", end: bytes = b"\x00", after: bytes = b"") -> bytes:
    return marker + b"\xff" * (256 - len(marker) - len(end) - len(tail) - len(after)) + end + tail + after


DIGEST = hashes.Hash(hashes.SHA256())
DIGEST.update(TEXT)
INFO = SHA256_INFO + DIGEST.finalize()
LAX = {
    "bytes_after_the_digest": padded(INFO, after=b"\x00" * 64),
    "padding_cut_short": b"\x00\x01" + b"\xff" * 8 + b"\x00" + INFO + b"\xaa" * (256 - 11 - len(INFO)),
    "no_parameters": padded(bytes.fromhex("302f300b06096086480165030402010420") + INFO[-32:]),
    "long_form_length": padded(b"\x30\x81" + INFO[1:]),
    "garbage_in_the_parameters": padded(bytes.fromhex("3033300f0609608648016503040201050240400420") + INFO[-32:]),
    "block_type_0": padded(INFO, marker=b"\x00\x00"),
    "block_type_2": padded(INFO, marker=b"\x00\x02"),
    "other_separator": padded(INFO, end=b"\x01"),
    "a_hole_in_the_padding": padded(INFO, marker=b"\x00\x01\xff\xfe"),
    "hash_named_sha512": padded(INFO[:14] + b"\x03" + INFO[15:]),
    "digest_without_its_frame": padded(INFO[-32:]),
}


def test_forger_of_the_next_tests_can_make_a_valid_signature() -> None:
    assert encrypted(padded(INFO), alipay.rsa_key()) == RIGHT


@pytest.mark.parametrize("shape", LAX)
def test_s20_padding_is_exact(shape: str) -> None:
    assert len(LAX[shape]) == 256
    assert refusal(with_sign(encrypted(LAX[shape], alipay.rsa_key())), RSA2) is Refusal.BAD_SIGNATURE


def test_s20_signature_above_the_modulus_is_refused() -> None:
    n = alipay.rsa_key().public_key().public_numbers().n
    above = int.from_bytes(RAW) + n
    raw = above.to_bytes(257)[-256:] if above < 1 << 2048 else above.to_bytes(257)
    assert refusal(with_sign(base64.b64encode(raw).decode()), RSA2) is Refusal.BAD_SIGNATURE


def dsa_parts() -> tuple[int, int, int]:
    r, s = decode_dss_signature(base64.b64decode(right_sign(SignType.DSA)))
    return r, s, alipay.dsa_key().parameters().parameter_numbers().q


def integer(value: int) -> bytes:
    content = value.to_bytes((value.bit_length() // 8) + 1, signed=True)
    return b"\x02" + bytes([len(content)]) + content


def dsa_forms() -> dict[str, bytes]:
    r, s, q = dsa_parts()
    right = encode_dss_signature(r, s)
    return {
        "r_zero": encode_dss_signature(0, s),
        "s_zero": encode_dss_signature(r, 0),
        "both_zero": encode_dss_signature(0, 0),
        "r_is_q": encode_dss_signature(q, s),
        "s_is_q": encode_dss_signature(r, q),
        "r_plus_q": encode_dss_signature(r + q, s),
        "s_plus_q": encode_dss_signature(r, s + q),
        "negative": b"\x30" + bytes([len(integer(r - q)) + len(integer(s))]) + integer(r - q) + integer(s),
        "long_form": b"\x30\x81" + right[1:],
        "trailing": right + b"\x00",
        "trailing_inside": right[:1] + bytes([right[1] + 2]) + right[2:] + b"\x05\x00",
        "leading_zeros": b"\x30" + bytes([right[1] + 1]) + b"\x02" + bytes([right[3] + 1]) + b"\x00" + right[4:],
        "raw_concatenation": r.to_bytes(32) + s.to_bytes(32),
        "empty": b"\x30\x00",
    }


@pytest.mark.parametrize("shape", dsa_forms())
def test_s18_dsa_signature_is_the_der_encoding_of_two_numbers_in_range(shape: str) -> None:
    sign = base64.b64encode(dsa_forms()[shape]).decode()
    assert refusal(with_sign(sign, "DSA"), DSA) is Refusal.BAD_SIGNATURE


class AcceptingDsa:
    """A DSA key that finds everything right, so that only our own look at the numbers is left."""

    parameters = alipay.dsa_key().parameters

    def verify(self, *_: object) -> None:
        return


@pytest.mark.parametrize("shape", dsa_forms())
def test_s18_numbers_of_a_dsa_signature_are_checked_before_the_library(shape: str) -> None:
    ring = KeyRing("shop", SignType.DSA, (Key("k", cast(Any, AcceptingDsa())),))
    assert verify(with_sign(right_sign(SignType.DSA), "DSA"), ring) == "k"
    sign = base64.b64encode(dsa_forms()[shape]).decode()
    assert refusal(with_sign(sign, "DSA"), ring) is Refusal.BAD_SIGNATURE


def test_smallest_and_largest_numbers_of_a_dsa_signature_are_in_range() -> None:
    ring = KeyRing("shop", SignType.DSA, (Key("k", cast(Any, AcceptingDsa())),))
    q = dsa_parts()[2]
    for r, s in ((1, 1), (q - 1, q - 1)):
        assert verify(with_sign(base64.b64encode(encode_dss_signature(r, s)).decode(), "DSA"), ring) == "k"


def test_s19_every_new_dsa_signature_of_the_text_is_valid() -> None:
    again = right_sign(SignType.DSA)
    assert verify(with_sign(right_sign(SignType.DSA), "DSA"), DSA) == verify(with_sign(again, "DSA"), DSA) == "k0"


def test_second_form_of_a_dsa_signature_is_also_valid() -> None:
    # q - s does not verify for DSA (unlike ECDSA), so a signature's siblings come from its holder only.
    r, s, q = dsa_parts()
    twin = base64.b64encode(encode_dss_signature(r, q - s)).decode()
    assert refusal(with_sign(twin, "DSA"), DSA) is Refusal.BAD_SIGNATURE


def test_s23_valid_signature_of_another_notification_is_refused() -> None:
    other = alipay.signature(alipay.canonical({**PAYMENT, "out_trade_no": "APP-2"}), alipay.rsa_key(), "RSA2")
    assert refusal(with_sign(other), RSA2) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("sign_type", ALGORITHMS)
def test_s25_signature_of_another_key_is_refused(sign_type: SignType) -> None:
    strangers: dict[SignType, alipay.Signer] = {
        SignType.RSA: alipay.rsa_key("stranger", bits=1024),
        SignType.RSA2: alipay.rsa_key("stranger"),
        SignType.DSA: alipay.dsa_key("stranger"),
        SignType.MD5: b"another-secret-of-the-same-size!",
    }
    params = alipay.signed(PAYMENT, strangers[sign_type], sign_type.value)
    assert refusal(params, alipay.ring(sign_type, ALGORITHMS[sign_type])) is Refusal.BAD_SIGNATURE


def test_s34_md5_signature_is_exactly_32_lower_case_hex_digits() -> None:
    right = right_sign(SignType.MD5)
    assert verify(with_sign(right, "MD5"), MD5) == "k0"
    for other in (
        right.upper(),
        right[:31],
        right[:1],
        right + "0",
        right + right,
        " " + right,
        base64.b64encode(right.encode()),
    ):
        assert refusal(with_sign(other, "MD5"), MD5) is Refusal.BAD_SIGNATURE


class Stumbling:
    """A key whose verifier fails in a way of its own."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def verify(self, *_: object) -> None:
        raise self._error


class Panic(BaseException):
    """A panic of a library. It derives from `BaseException`, so that no ordinary handler catches it."""


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), ValueError("x"), MemoryError(), RecursionError(), Panic("x")], ids=repr
)
def test_s33_any_exception_of_a_verifier_is_a_bad_signature(error: BaseException) -> None:
    ring = KeyRing("shop", SignType.RSA2, (Key("k", cast(Any, Stumbling(error))),))
    assert refusal(with_sign(RIGHT), ring) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_exit_are_not_bad_signatures(error: type[BaseException]) -> None:
    ring = KeyRing("shop", SignType.RSA2, (Key("k", cast(Any, Stumbling(error()))),))
    with pytest.raises(error):
        verify(with_sign(RIGHT), ring)


def test_key_of_the_wrong_kind_verifies_nothing() -> None:
    ring = KeyRing("shop", SignType.RSA2, (Key("k", alipay.dsa_key().public_key()),))
    assert refusal(with_sign(RIGHT), ring) is Refusal.BAD_SIGNATURE


def test_all_keys_verify_and_the_last_used_is_tried_first() -> None:
    old, new = alipay.rsa_key("old"), alipay.rsa_key("new")
    ring = alipay.ring(SignType.RSA2, old, new, ids=("old", "new"))
    for signer, key_id in ((new, "new"), (new, "new"), (old, "old"), (new, "new")):
        assert verify(alipay.signed(PAYMENT, signer, "RSA2"), ring) == key_id
        assert ring.recent[0].id == key_id
    assert refusal(alipay.signed(PAYMENT, alipay.rsa_key("stranger"), "RSA2"), ring) is Refusal.BAD_SIGNATURE
    assert ring.recent[0].id == "new"
    assert {key.id for key in ring.recent} == {"old", "new"}


KNOWN = sorted(name.decode() for name in forms.KNOWN_NAMES - {b"sign", b"sign_type"})
PLAIN = st.text(st.characters(exclude_characters="&", exclude_categories=["Cs"]), max_size=12)


def regrouped(draw: st.DrawFn, text: bytes) -> list[bytes]:
    """Pieces of the text, some of them grown together across their ampersands, some gone, twice or shuffled."""
    grown: list[bytes] = []
    for piece in text.split(b"&"):
        grows: bool = draw(st.booleans())
        if grown and grows:
            grown[-1] += b"&" + piece
        else:
            grown.append(piece)
    action = draw(st.sampled_from(["nothing", "shuffle", "drop", "empty"]))
    if action == "shuffle":
        grown = draw(st.permutations(grown))
    elif action == "drop":
        grown = grown[1:] or grown
    elif action == "empty":
        grown.append(b"currency=")
    return grown


@st.composite
def forgeries(draw: st.DrawFn) -> tuple[dict[str, str], bytes]:
    """A signed form, and a body derived from it by arbitrary changes."""
    genuine = draw(st.dictionaries(st.sampled_from(KNOWN), PLAIN, min_size=1, max_size=6))
    blanks = draw(st.booleans())
    text = alipay.canonical(genuine, blanks=blanks)
    pieces = [piece.partition(b"=") for piece in regrouped(draw, text)]
    sent = [b"%s=%s" % (quote_plus(name).encode(), quote_plus(value).encode()) for name, _, value in pieces]
    sign = alipay.signature(text, alipay.MD5_SECRET, "MD5").encode()
    return genuine, b"&".join([*sent, b"sign_type=MD5", b"sign=" + sign])


@given(forgeries())
def test_accepted_forms_are_exactly_those_that_were_signed(case: tuple[dict[str, str], bytes]) -> None:
    genuine, body = case
    try:
        form = forms.read(body)
        signature.verify_form(form, MD5)
    except (forms.BadForm, Refused):
        return
    if forms.is_ambiguous(form):
        return
    signed = {name.encode(): value.encode() for name, value in genuine.items()}
    for name in forms.DECIDING_NAMES - {b"biz_content"}:  # JSON, which shows where it ends
        assert form.fields.get(name, b"") == signed.get(name, b"")


@given(st.dictionaries(st.sampled_from(KNOWN), PLAIN, min_size=1, max_size=6), st.booleans())
def test_signed_forms_are_accepted(genuine: dict[str, str], blanks: bool) -> None:
    params: dict[str, str | bytes] = dict(genuine)
    assert verify(alipay.signed(params, alipay.MD5_SECRET, "MD5", blanks=blanks), MD5) == "k0"


# Antom

BODY = b'{"notifyType":"PAYMENT_RESULT","paymentRequestId":"PAY-1"}'
ANTOM = alipay.ring(SignType.RSA256, alipay.rsa_key(), alipay.rsa_key("second"), ids=("1", "2"))


def message(
    headers: dict[str, str], *, body: bytes = BODY, path: str = "/notify/antom-hk", ring: KeyRing = ANTOM
) -> str:
    return signature.verify_message(
        body,
        signature_header=headers["signature"],
        client_id=headers["client-id"].encode(),
        request_time=headers["request-time"].encode(),
        path=path.encode(),
        ring=ring,
    )


def antom_refusal(header: str | None = None, **changes: Any) -> Refusal:
    headers = alipay.antom_headers(BODY, alipay.rsa_key())
    with pytest.raises(Unauthentic) as caught:
        message(headers | ({"signature": header} if header is not None else {}), **changes)
    return caught.value.reason


def antom_sign() -> str:
    return alipay.antom_headers(BODY, alipay.rsa_key())["signature"].partition("signature=")[2]


def test_n01_message_is_verified_with_the_key_it_names() -> None:
    assert message(alipay.antom_headers(BODY, alipay.rsa_key())) == "1"
    assert message(alipay.antom_headers(BODY, alipay.rsa_key("second"), key_version="2")) == "2"


def test_n02_header_without_a_signature_is_missing_sign() -> None:
    assert antom_refusal("algorithm=RSA256") is Refusal.MISSING_SIGN
    assert antom_refusal("algorithm=RSA256,keyVersion=1,signature=") is Refusal.MISSING_SIGN


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RSA1", "rsa256", "RSA2", "RSA", "RSA256x", ""])
def test_n04_another_algorithm_is_refused(algorithm: str) -> None:
    header = f"algorithm={algorithm},keyVersion=1,signature={antom_sign()}"
    assert antom_refusal(header) is Refusal.UNSUPPORTED_SIGN_TYPE


def test_n04_absent_algorithm_is_refused() -> None:
    assert antom_refusal(f"keyVersion=1,signature={antom_sign()}") is Refusal.UNSUPPORTED_SIGN_TYPE


@pytest.mark.parametrize("version", ["0", "-1", "+1", "1000000000", "01", "3", "x", "", "1.0"])
def test_n05_unknown_key_version_is_refused(version: str) -> None:
    assert antom_refusal(f"algorithm=RSA256,keyVersion={version},signature={antom_sign()}") is Refusal.UNKNOWN_KEY


def test_n05_key_version_with_a_leading_zero_is_refused() -> None:
    ring = alipay.ring(SignType.RSA256, alipay.rsa_key(), ids=("01",))
    assert antom_refusal(f"algorithm=RSA256,keyVersion=01,signature={antom_sign()}", ring=ring) is Refusal.UNKNOWN_KEY


def test_n05_only_the_named_version_is_tried() -> None:
    assert antom_refusal(f"algorithm=RSA256,keyVersion=2,signature={antom_sign()}") is Refusal.BAD_SIGNATURE


def test_n06_order_blanks_and_unknown_parts_do_not_matter() -> None:
    headers = alipay.antom_headers(BODY, alipay.rsa_key())
    for header in (
        f"signature={antom_sign()}, keyVersion=1, algorithm=RSA256",
        f"algorithm=RSA256,  signature={antom_sign()},new=part,new=again",
        f"algorithm=RSA256,signature={antom_sign()}",
    ):
        assert message(headers | {"signature": header}) == "1"


def test_n07_signature_is_percent_decoded_exactly_once() -> None:
    headers = alipay.antom_headers(BODY, alipay.rsa_key())
    raw = headers["signature"].replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
    assert message(headers | {"signature": raw}) == "1"
    twice = f"algorithm=RSA256,keyVersion=1,signature={quote(antom_sign(), safe='')}"
    assert antom_refusal(twice) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize(
    "path", ["/notify/antom-hk/", "//notify/antom-hk", "/NOTIFY/antom-hk", "/notify/antom-hk?a=1", "/", ""]
)
def test_n08_n09_n10_signed_path_is_the_one_configured_at_antom(path: str) -> None:
    assert antom_refusal(path=path) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("body", [BODY + b"\n", BODY.replace(b":", b": "), BODY[:-1] + b"]", BODY[1:], b""])
def test_n17_n18_body_is_signed_byte_for_byte(body: bytes) -> None:
    assert antom_refusal(body=body) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("name", ["client-id", "request-time"])
def test_n13_n14_other_two_headers_are_signed_as_received(name: str) -> None:
    headers = alipay.antom_headers(BODY, alipay.rsa_key())
    with pytest.raises(Unauthentic) as caught:
        message(headers | {name: headers[name] + "1"})
    assert caught.value.reason is Refusal.BAD_SIGNATURE


def test_malformed_signature_header_is_refused() -> None:
    headers = alipay.antom_headers(BODY, alipay.rsa_key())
    for header in ("RSA256", f"{headers['signature']},signature=x", f"{headers['signature']},algorithm=RSA256"):
        with pytest.raises(Malformed) as caught:
            message(headers | {"signature": header})
        assert caught.value.reason is Refusal.MALFORMED


def test_message_signed_with_another_hash_is_refused() -> None:
    text = f"POST /notify/antom-hk\n{alipay.CLIENT}.2025-03-18T06:31:07Z.".encode() + BODY
    sign = quote_plus(alipay.signature(text, alipay.rsa_key(), "RSA"))
    assert antom_refusal(f"algorithm=RSA256,keyVersion=1,signature={sign}") is Refusal.BAD_SIGNATURE


OLD_KEY = alipay.rsa_key("old", bits=1024)
MOVED = KeyRing(
    "shop",
    SignType.RSA2,
    RSA2.keys,
    retiring=(KeyRing("shop", SignType.RSA, alipay.ring(SignType.RSA, OLD_KEY).keys, until="x", until_ms=1000),),
)


def old_form(signed_as: str = "RSA", declared: str = "RSA") -> forms.Form:
    return forms.read(alipay.urlencoded({**alipay.signed({"a": "1"}, OLD_KEY, signed_as), "sign_type": declared}))


@pytest.mark.parametrize(
    ("form", "at_ms", "reason"),
    [
        (old_form(), 1000, Refusal.UNSUPPORTED_SIGN_TYPE),
        (old_form(), None, Refusal.UNSUPPORTED_SIGN_TYPE),
        (old_form("RSA2", "RSA"), 1, Refusal.BAD_SIGNATURE),
        (old_form("RSA2", "RSA2"), 1, Refusal.BAD_SIGNATURE),
        (old_form("RSA", "RSA2"), 1, Refusal.BAD_SIGNATURE),
        (old_form("RSA", "rsa"), 1, Refusal.UNSUPPORTED_SIGN_TYPE),
    ],
)
def test_h14_retiring_key_verifies_nothing_else_and_nothing_later(
    form: forms.Form, at_ms: int | None, reason: Refusal
) -> None:
    assert signature.verify_form(old_form(), MOVED, 999) == "k0"
    with pytest.raises(Unauthentic) as caught:
        signature.verify_form(form, MOVED, at_ms)
    assert caught.value.reason is reason
