"""Rows S: one signature, one spelling, by one of the account's keys, with the account's algorithm."""

import base64
import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.bad_input import merchant, wire
from tests.bad_input.judge import OK, Expected, Judge
from tests.bad_input.merchant import Params, Signer, encode
from tests.support import alipay

CN, SG, MD5, DSA, CERT = (f"/notify/shop-{name}" for name in ("cn", "sg", "md5", "dsa", "cert"))
MISSING = Expected(401, "bad_signature", "missing_sign")
BAD = Expected(401, "bad_signature", "bad_signature")
UNSUPPORTED = Expected(401, "bad_signature", "unsupported_sign_type")
UNKNOWN_KEY = Expected(401, "bad_signature", "unknown_key")
NOT_OURS = Expected(403, "not_ours", "not_ours")

Change = Callable[[str], str]


def bytes_changed(change: Callable[[bytes], bytes]) -> Change:
    return lambda sign: base64.b64encode(change(base64.b64decode(sign))).decode()


SIGNS: dict[str, tuple[Change, Expected]] = {
    "S02-empty": (lambda sign: "", MISSING),
    "S02-blank": (lambda sign: " ", BAD),
    "S02-null": (lambda sign: "null", BAD),
    "S02-undefined": (lambda sign: "undefined", BAD),
    "S02-zero": (lambda sign: "0", BAD),
    "S03": (lambda sign: "not base64!!", BAD),
    "S04": (lambda sign: "é签", BAD),
    "S05-junk": (lambda sign: sign[:20] + "!" + sign[20:], BAD),
    "S05-blank": (lambda sign: sign[:20] + " " + sign[20:], BAD),
    "S05-newline": (lambda sign: sign[:20] + "\n" + sign[20:], BAD),
    "S05-end": (lambda sign: sign + "\n", BAD),
    "S07-url": (lambda sign: sign.replace("+", "-").replace("/", "_"), BAD),
    "S07-padding": (lambda sign: sign.rstrip("="), BAD),
    "S07-appended": (lambda sign: sign + "AAAA", BAD),
    "S08-bit": (bytes_changed(lambda raw: bytes([raw[0] ^ 1]) + raw[1:]), BAD),
    "S08-truncated": (bytes_changed(lambda raw: raw[:-1]), BAD),
    "S08-zero": (bytes_changed(lambda raw: b"\0" + raw), BAD),
    "S08-doubled": (bytes_changed(lambda raw: raw + raw), BAD),
}


def other_ending(sign: str) -> str:
    """The same bytes in a spelling that is not canonical: the last digit's unused bits set."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = sign.rstrip("=")
    changed = body[:-1] + digits[digits.index(body[-1]) + 1] + sign[len(body) :]
    assert base64.b64decode(changed) == base64.b64decode(sign)
    return changed


SIGNS["S07-ending"] = (other_ending, BAD)


@pytest.mark.parametrize("name", SIGNS)
def test_signature_has_one_spelling(judge: Judge, name: str) -> None:
    change, expected = SIGNS[name]
    params = judge.signer.cn(merchant.payment())
    while name == "S07-url" and not {"+", "/"} & set(params["sign"]):
        params = judge.signer.cn(merchant.payment())
    judge.row(wire.post(CN, encode(params | {"sign": change(params["sign"])})), expected)


@pytest.mark.parametrize("name", ["S02-empty", "S02-blank", "S02-null", "S03", "S04", "S05-junk", "S07-appended"])
def test_md5_digest_has_one_spelling(judge: Judge, name: str) -> None:
    change, expected = SIGNS[name]
    params = judge.signer.web(merchant.mapi_payment())
    judge.row(wire.post(MD5, encode(params | {"sign": change(params["sign"])})), expected)


def test_s34_md5_digest_in_capitals_is_refused(judge: Judge) -> None:
    params = judge.signer.web(merchant.mapi_payment())
    judge.row(wire.post(MD5, encode(params | {"sign": params["sign"].upper()})), BAD)


def test_every_algorithm_verifies_its_own_signatures(judge: Judge) -> None:
    judge.row(wire.post(SG, encode(judge.signer.sg(merchant.mapi_payment()))), OK)
    judge.row(wire.post("/notify/shop-web", encode(judge.signer.web(merchant.website_payment()))), OK)
    judge.row(wire.post(MD5, encode(judge.signer.web(merchant.mapi_payment()))), OK)
    judge.row(wire.post(DSA, encode(judge.signer.dsa(merchant.mapi_payment()))), OK)
    judge.row(wire.post(CERT, encode(judge.signer.cn(merchant.payment(), key=judge.signer.keys.cert))), OK)
    judge.row(wire.post(CN, encode(judge.signer.cn(merchant.refund()))), OK)


def test_s01_missing_sign_is_refused(judge: Judge) -> None:
    judge.row(wire.post(CN, encode(merchant.payment() | {"sign_type": "RSA2"})), MISSING)


def test_s09_signature_of_a_mebibyte_never_reaches_cryptography(judge: Judge) -> None:
    params = judge.signer.cn(merchant.payment()) | {"sign": "A" * (1 << 20)}
    judge.row(wire.post(CN, encode(params)), Expected(413, "too_large", "too_large"))


def retyped(params: Params, sign_type: str | None) -> bytes:
    rest = {name: value for name, value in params.items() if name != "sign_type"}
    return encode(rest if sign_type is None else rest | {"sign_type": sign_type})


@pytest.mark.parametrize("sign_type", [None, "", "rsa2", "RSA2 ", "none", "HS256", "RSA", "MD5", "RSA256", "RSA2\0"])
def test_s10_s17_account_pins_the_algorithm(judge: Judge, sign_type: str | None) -> None:
    judge.row(wire.post(CN, retyped(judge.signer.cn(merchant.payment()), sign_type)), UNSUPPORTED)


def test_s11_md5_does_not_pass_where_rsa2_is_pinned(judge: Judge) -> None:
    params = merchant.payment()
    for key in ("", merchant.CN_APP, alipay.pem(judge.signer.keys.cn).decode()):
        digest = hashlib.md5(merchant.text_of(params) + key.encode()).hexdigest()
        judge.row(wire.post(CN, encode(params | {"sign_type": "MD5", "sign": digest})), UNSUPPORTED)
        judge.row(wire.post(CN, encode(params | {"sign_type": "RSA2", "sign": digest})), BAD)


def rsa_signed(signer: Signer, algorithm: hashes.HashAlgorithm, sign_type: str) -> bytes:
    params = merchant.payment()
    sign = alipay.rsa_signature(merchant.text_of(params), signer.keys.cn, algorithm)
    return encode(params | {"sign_type": sign_type, "sign": sign})


def test_s14_valid_sha1_signature_is_no_rsa2(judge: Judge) -> None:
    judge.row(wire.post(CN, rsa_signed(judge.signer, hashes.SHA1(), "RSA")), UNSUPPORTED)
    judge.row(wire.post(CN, rsa_signed(judge.signer, hashes.SHA1(), "RSA2")), BAD)
    judge.row(wire.post(CN, rsa_signed(judge.signer, hashes.SHA512(), "RSA2")), BAD)


def test_s16_sha256_signature_is_no_rsa(judge: Judge) -> None:
    params = merchant.mapi_payment()
    sign = alipay.rsa_signature(merchant.text_of(params), judge.signer.keys.sg, hashes.SHA256())
    judge.row(wire.post(SG, encode(params | {"sign_type": "RSA", "sign": sign})), BAD)


def test_other_padding_is_a_bad_signature(judge: Judge) -> None:
    params = merchant.payment()
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    raw = judge.signer.keys.cn.sign(merchant.text_of(params), pss, hashes.SHA256())
    judge.row(wire.post(CN, encode(params | {"sign_type": "RSA2", "sign": base64.b64encode(raw).decode()})), BAD)


def raw_power(signer: Signer, block: bytes) -> str:
    """The private operation on a padded block of one's own making."""
    numbers = signer.keys.cn.private_numbers()
    modulus = numbers.public_numbers.n
    value = pow(int.from_bytes(block), numbers.d, modulus)
    return base64.b64encode(value.to_bytes(256)).decode()


SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


@pytest.mark.parametrize("kind", ["exact", "short-padding", "trailing", "no-null", "block-type-2"])
def test_s20_pkcs1_padding_is_checked_to_the_letter(judge: Judge, kind: str) -> None:
    params = merchant.payment()
    info = SHA256_PREFIX + hashlib.sha256(merchant.text_of(params)).digest()
    no_null = bytes.fromhex("302f300b0609608648016503040201") + info[17:]
    block = {
        "exact": b"\0\1" + b"\xff" * (253 - len(info)) + b"\0" + info,
        "short-padding": b"\0\1" + b"\xff" * 8 + b"\0" + info + b"\0" * (245 - len(info)),
        "trailing": b"\0\1" + b"\xff" * (249 - len(info)) + b"\0" + info + b"junk",
        "no-null": b"\0\1" + b"\xff" * (253 - len(no_null)) + b"\0" + no_null,
        "block-type-2": b"\0\2" + b"\xff" * (253 - len(info)) + b"\0" + info,
    }[kind]
    assert len(block) == 256
    body = encode(params | {"sign_type": "RSA2", "sign": raw_power(judge.signer, block)})
    judge.row(wire.post(CN, body), OK if kind == "exact" else BAD)


def der(*numbers: int, long_form: bool = False) -> bytes:
    content = b""
    for number in numbers:
        raw = number.to_bytes((number.bit_length() + 8) // 8 or 1, "big", signed=True)
        content += b"\x02" + bytes([len(raw)]) + raw
    return b"\x30" + (b"\x81" if long_form else b"") + bytes([len(content)]) + content


@pytest.mark.parametrize("kind", ["r=0", "s=0", "r=q", "negative", "long-form", "trailing", "padded", "raw"])
def test_s18_dsa_signature_is_two_numbers_in_range_in_der(judge: Judge, kind: str) -> None:
    params = judge.signer.dsa(merchant.mapi_payment())
    raw = base64.b64decode(params["sign"])
    r, s = decode_dss_signature(raw)
    q = judge.signer.keys.dsa.parameters().parameter_numbers().q
    padded = b"\x30" + bytes([raw[1] + 1]) + b"\x02" + bytes([raw[3] + 1]) + b"\0" + raw[4:]
    changed = {
        "r=0": der(0, s),
        "s=0": der(r, 0),
        "r=q": der(q, s),
        "negative": der(r - q, s),
        "long-form": der(r, s, long_form=True),
        "trailing": raw + b"\0",
        "padded": padded,
        "raw": r.to_bytes(20) + s.to_bytes(20),
    }[kind]
    body = encode(params | {"sign": base64.b64encode(changed).decode()})
    judge.row(wire.post(DSA, body), BAD)


def test_s19_another_dsa_signature_of_the_same_text_is_valid_too(judge: Judge) -> None:
    params = merchant.mapi_payment()
    first, second = judge.signer.dsa(params), judge.signer.dsa(params)
    assert first["sign"] != second["sign"]
    judge.row(wire.post(DSA, encode(first)), OK)
    judge.row(wire.post(DSA, encode(second)), OK)


def test_s23_signature_of_another_notification_is_refused(judge: Judge) -> None:
    other = judge.signer.cn(merchant.payment())["sign"]
    judge.row(wire.post(CN, encode(judge.signer.cn(merchant.payment()) | {"sign": other})), BAD)


def test_s25_form_of_another_shop_is_refused(judge: Judge) -> None:
    body = encode(judge.signer.sg(merchant.mapi_payment()))
    judge.row(wire.post("/notify/shop-gbk", body), BAD)
    judge.row(wire.post("/notify/shop-sg-two", body), NOT_OURS)


def test_s26_unknown_app_is_not_ours_and_selects_no_key(judge: Judge) -> None:
    params = merchant.payment(app_id="2021999999999999", auth_app_id="2021999999999999")
    judge.row(wire.post(CN, encode(judge.signer.cn(params))), NOT_OURS)
    judge.row(wire.post(CN, encode(judge.signer.cn(params, key=judge.signer.keys.stranger))), BAD)


def test_s27_unknown_account_has_no_keys(judge: Judge) -> None:
    judge.row(
        wire.post("/notify/shop-zz", encode(judge.signer.cn(merchant.payment()))), Expected(404, "unknown_account")
    )


def test_s28_unknown_certificate_is_not_fetched(judge: Judge) -> None:
    params = merchant.payment(alipay_cert_sn="0123456789abcdef0123456789abcdef")
    judge.row(wire.post(CERT, encode(judge.signer.cn(params, key=judge.signer.keys.cert))), UNKNOWN_KEY)


BUSINESS: dict[str, Callable[[Signer], bytes]] = {
    "B05-app": lambda signer: encode(signer.cn(merchant.payment(app_id="2021000000000001"))),
    "B05-auth": lambda signer: encode(signer.cn(merchant.payment(auth_app_id="2021000000000001"))),
    "B06": lambda signer: encode(signer.cn(merchant.payment(seller_id=merchant.OTHER_SELLER))),
    "B06-none": lambda signer: encode(signer.cn({k: v for k, v in merchant.payment().items() if k != "seller_id"})),
    "B26": lambda signer: encode(
        signer.cn(merchant.payment(app_id="9021000000000001", auth_app_id="9021000000000001"))
    ),
}


@pytest.mark.parametrize("name", BUSINESS)
def test_authentic_notification_for_another_merchant_is_refused(judge: Judge, name: str) -> None:
    judge.row(wire.post(CN, BUSINESS[name](judge.signer)), NOT_OURS)


def test_b06_mapi_form_without_payee_and_confirmation_is_refused(judge: Judge) -> None:
    params = {name: value for name, value in merchant.mapi_payment().items() if name != "seller_id"}
    judge.row(wire.post(SG, encode(judge.signer.sg(params))), NOT_OURS)


def test_b26_sandbox_key_is_unknown_in_production(judge: Judge) -> None:
    judge.row(wire.post(CN, encode(judge.signer.cn(merchant.payment(), key=judge.signer.keys.stranger))), BAD)


SWITCHES = {
    "PYTHONOPTIMIZE": "2",  # no assert is there any more, so none may be a check
    "PYTHONDEVMODE": "1",
    "BREAK_AT": "R4",
    "BREAK_AFTER": "1",
    **{f"ALIPAY_NOTIFY_{name}": "1" for name in ("DEBUG", "DEVELOPMENT", "TEST", "SANDBOX", "INSECURE", "FAIL_POINT")},
    "ALIPAY_NOTIFY_VERIFY": "0",
    "ALIPAY_NOTIFY_SKIP_VERIFY": "1",
}


def test_h6_x08_no_environment_variable_turns_verification_off(judge_of: Callable[..., Judge]) -> None:
    """There is none to arm: the program knows no such name, and the faults of the other suites are not in it."""
    judge = judge_of(**SWITCHES)
    judge.row(wire.post(CN, encode(judge.signer.cn(merchant.payment()))), OK)
    judge.row(wire.post(CN, encode(judge.signer.cn(merchant.payment(), key=judge.signer.keys.stranger))), BAD)
    judge.row(wire.post(CN, encode(merchant.payment() | {"sign_type": "RSA2"})), MISSING)
    judge.row(wire.post(CN, encode(judge.signer.cn(merchant.payment(app_id="2021000000000001")))), NOT_OURS)
    params = judge.signer.dsa(merchant.mapi_payment())
    judge.row(wire.post(DSA, encode(params | {"total_fee": "0.01"})), BAD)
