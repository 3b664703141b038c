"""The explanation names the cause of every known change to a message, and accepts only authentic ones."""

import html
import json
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.verify import advice as verify_advice
from deploy.verify import explain
from deploy.verify.capture import Captured
from deploy.verify.explain import Explanation
from deploy.verify.variants import Variant
from ingest.keys import Key, KeyRing
from schemas import personal
from schemas.accounts import Account, RetiringAlgorithm, SignType
from schemas.dispositions import Refusal
from tests.support import alipay, log_records

CN = alipay.openapi()
RING = alipay.ring(SignType.RSA2, alipay.rsa_key())
FORM: dict[str, str | bytes] = {
    "app_id": alipay.APP,
    "seller_id": alipay.SELLER,
    "charset": "utf-8",
    "out_trade_no": "OP-1",
    "subject": '港式奶茶 "x2" + 礼盒 10%',
    "total_amount": "9.00",
    "notify_id": "N-1",
}
# One signature in two hundred has no +, so that the changes to + could not be tested with it.
FORM["notify_id"] = next(
    number
    for number in map(str, range(1000))
    if {"+", "/"} <= set(alipay.signature(alipay.canonical({**FORM, "notify_id": number}), alipay.rsa_key(), "RSA2"))
)
SIGNED = alipay.signed(FORM, alipay.rsa_key(), "RSA2")


def explained(
    body: bytes,
    account: Account = CN,
    ring: KeyRing = RING,
    *,
    target: str = "",
    others: Mapping[str, KeyRing] | None = None,
    given: Key | None = None,
) -> Explanation:
    found = explain.explain(Captured(body=body, target=target), account, ring, others=others, given=given)
    assert found.accepted or (verify_advice.FAILED in found.cause and found.remedy)
    return found


def of(params: Mapping[str, str | bytes]) -> Explanation:
    return explained(alipay.urlencoded(params))


def signed_as(text: bytes, **changes: str | bytes) -> dict[str, str | bytes]:
    """The form, with a signature over another text."""
    return {**FORM, **changes, "sign_type": "RSA2", "sign": alipay.signature(text, alipay.rsa_key(), "RSA2")}


def test_authentic_form_is_accepted_with_its_text_and_key() -> None:
    found = of(SIGNED)
    assert (found.accepted, found.key, found.reason, found.departures) == (True, "k0", None, ())
    assert found.signed_text == alipay.canonical(FORM).decode()


CANONICAL = alipay.canonical(FORM)
SIGN = alipay.signature(CANONICAL, alipay.rsa_key(), "RSA2")
SUBJECT = '港式奶茶 "x2" + 礼盒 10%'


def signed_over(text: bytes, **changes: str | bytes) -> bytes:
    """The body of the form with these changes, and a signature over another text."""
    return alipay.urlencoded(signed_as(text, **changes))


def sent(**changes: str | bytes) -> bytes:
    """The body of the signed form with these changes."""
    return alipay.urlencoded({**SIGNED, **changes})


FORMS: dict[Variant, bytes] = {
    Variant.BODY_UNESCAPED: html.escape(sent().decode()).encode(),
    Variant.DECODED_TWICE: sent(**{name: quote_plus(alipay.encoded(value)) for name, value in FORM.items()}),
    Variant.VALUES_TRIMMED: signed_over(alipay.canonical({**FORM, "subject": "港式奶茶"}), subject=" 港式奶茶\t"),
    Variant.VALUES_UNESCAPED: sent(subject=html.escape(SUBJECT)),
    Variant.PLUS_TO_BLANK: signed_over(alipay.canonical({**FORM, "subject": "a 1%41"}), subject="a+1%41"),
    Variant.UTF8_TO_GBK: signed_over(alipay.canonical(FORM, charset="gbk")),
    Variant.GBK_TO_UTF8: alipay.urlencoded(SIGNED, "gbk"),
    Variant.LATIN1: sent(subject=SUBJECT.encode().decode("latin-1")),
    Variant.SIGN_TYPE_KEPT: signed_over(b"&".join(sorted([*CANONICAL.split(b"&"), b"sign_type=RSA2"]))),
    Variant.CERT_SN_DROPPED: sent(alipay_cert_sn="abc"),
    Variant.ORIGINAL_ORDER: signed_over("&".join(f"{name}={value!s}" for name, value in FORM.items()).encode()),
    Variant.BLANK_TO_PLUS: signed_over(alipay.canonical({**FORM, "subject": "茶+b+c"}), subject="茶 b c"),
    Variant.BLANK_CUT: signed_over(alipay.canonical({**FORM, "subject": "tea "}), subject="tea"),
    Variant.LINE_ENDS: signed_over(alipay.canonical({**FORM, "body": "1\r\n2"}), body="1\n2"),
    Variant.SLASHES_ADDED: sent(subject=SUBJECT.replace('"', '\\"')),
    Variant.ESCAPES_DECODED: signed_over(alipay.canonical({**FORM, "subject": "a&quot;b"}), subject='a"b'),
    Variant.PARAMETER_ADDED: sent(_url="/notify/shop", s="1"),
    Variant.PARAMETER_DROPPED: alipay.urlencoded({n: v for n, v in SIGNED.items() if n != "charset"}),
    Variant.SIGN_BLANK_TO_PLUS: sent(sign=SIGN.replace("+", " ")),
    Variant.SIGN_DECODED_AGAIN: sent(sign=quote(SIGN, safe="")),
    Variant.SIGN_WHITESPACE: sent(sign=f"{SIGN[:76]}\n{SIGN[76:]}"),
    Variant.SIGN_URL_SAFE: sent(sign=SIGN.replace("+", "-").replace("/", "_")),
    Variant.SIGN_UNPADDED: sent(sign=SIGN.rstrip("=")),
    Variant.OTHER_HASH: sent(sign=alipay.signature(CANONICAL, alipay.rsa_key(), "RSA")),
}


def test_copy_with_hidden_or_erased_data_is_named_as_one() -> None:
    body = alipay.urlencoded(alipay.signed(FORM | {"buyer_id": "2088102116773037"}, alipay.rsa_key(), "RSA2"))
    erased = personal.erased(log_records.sealed(body, "OP-1")).value
    for copy in (personal.hidden(body), erased):
        found = explained(copy)
        assert not found.accepted
        assert "hidden (***) or erased" in found.cause
    assert explained(body).accepted


@pytest.mark.parametrize("variant", FORMS)
def test_each_change_to_a_form_is_named(variant: Variant) -> None:
    found = explained(FORMS[variant])
    assert not found.accepted
    assert found.departures == (variant,)
    assert any(each.variant is variant and each.holds for each in found.tried)


@pytest.mark.parametrize("added", [("total_fee",), ("s",), ("s", "q"), ("auth_app_id",)])
def test_added_parameters_are_named(added: tuple[str, ...]) -> None:
    found = explained(sent(**dict.fromkeys(added, "1")))
    assert (found.accepted, found.departures, found.ignored) == (False, (Variant.PARAMETER_ADDED,), added)
    assert ", ".join(added) in found.cause


def test_one_added_parameter_among_signed_unknown_ones_is_named() -> None:
    signed = alipay.signed({**FORM, "new_name": "1", "newer_name": "2"}, alipay.rsa_key(), "RSA2")
    assert of(signed).accepted
    assert of({**signed, "s": "/pay"}).ignored == ("s",)
    assert of({**signed, "s": "/pay", "q": "x"}).ignored == ()
    assert of({**alipay.signed({**FORM, "new_name": "1"}, alipay.rsa_key(), "RSA2"), "s": "", "q": "x"}).ignored == (
        "q",
    )


def test_repeated_parameter_is_named() -> None:
    found = explained(alipay.urlencoded(SIGNED) + b"&total_amount=9.00")
    assert (found.reason, found.ignored) == (Refusal.DUPLICATE_PARAM, ("total_amount",))


@pytest.mark.parametrize("dropped", [("charset",), ("app_id",), ("seller_id",), ("charset", "seller_id")])
def test_dropped_parameters_are_named(dropped: tuple[str, ...]) -> None:
    found = of({name: value for name, value in SIGNED.items() if name not in dropped})
    assert found.departures == (Variant.PARAMETER_DROPPED,)
    assert ", ".join(dropped) in found.cause


def test_truncated_body_is_named() -> None:
    body = alipay.urlencoded(SIGNED)
    cut = Captured(body=body[:-300], headers={"content-length": str(len(body))})
    found = explain.explain(cut, CN, RING)
    assert "truncated" in found.cause
    assert f"{len(body) - 300} of the {len(body)}" in found.cause
    assert explain.explain(Captured(body=body, headers={"content-length": str(len(body))}), CN, RING).accepted


def test_addresses_of_java_arrays_are_recognised() -> None:
    found = of(dict.fromkeys(SIGNED, "[Ljava.lang.String;@1b2c3d") | {"sign_type": "RSA2"})
    assert "getParameterMap" in found.remedy


def test_signed_parameters_of_the_address_are_named() -> None:
    text = alipay.canonical({**FORM, "id": "123"})
    found = explained(alipay.urlencoded(signed_as(text)), target="/notify/shop-cn?id=123")
    assert found.departures == (Variant.QUERY_INCLUDED,)
    assert "query" in found.cause


def test_body_that_is_already_decoded_is_named() -> None:
    params: dict[str, str | bytes] = {"app_id": alipay.APP, "seller_id": alipay.SELLER, "subject": "a%2Bb"}
    sign = alipay.signature(alipay.canonical(params), alipay.rsa_key(), "RSA2")
    decoded = "&".join(f"{name}={value!s}" for name, value in params.items())
    found = explained(f"{decoded}&sign_type=RSA2&sign={quote_plus(sign)}".encode())
    assert found.departures == (Variant.NOT_DECODED,)


def test_line_end_after_the_body_is_named() -> None:
    found = explained(alipay.urlencoded(SIGNED) + b"\n")
    assert (found.accepted, found.reason) == (False, Refusal.MALFORMED)
    assert "line end" in found.cause


def test_body_of_decoded_text_is_malformed_with_a_valid_signature() -> None:
    body = alipay.urlencoded(SIGNED).decode().replace(quote_plus("港式奶茶"), "港式奶茶").encode()
    found = explained(body)
    assert found.reason is Refusal.MALFORMED
    assert "would be valid" in found.cause


def test_two_changes_are_named_together() -> None:
    gbk = alipay.signature(alipay.canonical(FORM, charset="gbk"), alipay.rsa_key(), "RSA2")
    found = of({**SIGNED, "sign": gbk.rstrip("=")})
    assert set(found.departures) == {Variant.UTF8_TO_GBK, Variant.SIGN_UNPADDED}
    assert ", and " in found.cause


def test_own_key_over_another_text_differs_from_an_unknown_key() -> None:
    changed = of({**SIGNED, "total_amount": "0.01"})
    assert (changed.departures, changed.reason) == ((), Refusal.BAD_SIGNATURE)
    assert "over another text" in changed.cause
    strange = of(alipay.signed(FORM, alipay.rsa_key("stranger"), "RSA2"))
    assert "no key known here" in strange.cause
    assert "another text" not in strange.cause


def test_key_of_another_account_is_named() -> None:
    others = {"shop-two": alipay.ring(SignType.RSA2, alipay.rsa_key("two"), ids=("two.pem",)), "shop": RING}
    genuine = explained(alipay.form(FORM, alipay.rsa_key("two"), "RSA2"), others=others)
    assert genuine.departures == (Variant.KEY_OF_OTHER_ACCOUNT,)
    assert genuine.key == "shop-two: two.pem"
    assert "shop-two: two.pem" in genuine.cause
    changed = alipay.urlencoded({**alipay.signed(FORM, alipay.rsa_key("two"), "RSA2"), "total_amount": "1.00"})
    assert "made by shop-two: two.pem" in explained(changed, others=others).cause


def test_key_given_for_comparison_is_tried_and_never_accepted() -> None:
    key = Key("mine.pem", alipay.rsa_key("mine").public_key())
    found = explained(alipay.form(FORM, alipay.rsa_key("mine"), "RSA2"), given=key)
    assert (found.accepted, found.departures, found.key) == (False, (Variant.GIVEN_KEY,), "mine.pem")


def test_merchants_own_public_key_instead_of_alipays_is_recognised() -> None:
    own = Key("mine.pem", alipay.rsa_key("mine").public_key())
    ring = alipay.ring(SignType.RSA2, alipay.rsa_key("mine"))
    found = explained(alipay.urlencoded(SIGNED), ring=ring, given=own)
    assert "应用公钥" in found.cause
    assert "支付宝公钥" in found.remedy


def test_other_sign_type_is_named_with_validity_of_the_signature() -> None:
    weaker = alipay.form(FORM, alipay.rsa_key(), "RSA")
    found = explained(weaker)
    assert found.reason is Refusal.UNSUPPORTED_SIGN_TYPE
    assert "names sign_type RSA and the account is pinned to RSA2" in found.cause
    assert "The signature itself is valid" in found.remedy
    forged = explained(weaker.replace(b"9.00", b"0.01"))
    assert "do not change the account" in forged.remedy.lower()
    assert "over another text" in forged.cause
    absent = of({name: value for name, value in SIGNED.items() if name != "sign_type"})
    assert "names no sign_type" in absent.cause


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"app_id": "2021000000000000"}, Refusal.NOT_OURS),
    ],
)
def test_refused_message_with_a_valid_signature_is_explained(changes: dict[str, str], reason: Refusal) -> None:
    found = of(alipay.signed({**FORM, **changes}, alipay.rsa_key(), "RSA2"))
    assert (found.accepted, found.reason, found.departures) == (False, reason, ())
    assert "the signature is valid" in found.cause


def test_ambiguous_form_is_accepted_and_its_quarantine_explained() -> None:
    found = of(alipay.signed({**FORM, "subject": "x&total_amount=1"}, alipay.rsa_key(), "RSA2"))
    assert (found.accepted, found.reason, found.departures) == (True, None, ())
    assert "also fits other parameters" in found.cause
    assert "quarantined" in found.remedy


@pytest.mark.parametrize(
    "body", [b"", b"a=1", b"a=1&a=2", b"\xff\xfe", b"sign=", b"%", b"&&&", b"sign=x&sign_type=RSA2"]
)
def test_broken_bodies_are_refused_with_a_cause(body: bytes) -> None:
    assert not explained(body).accepted


def test_md5_mismatch_names_key_and_text_as_possible_causes() -> None:
    account, ring = alipay.mapi(SignType.MD5), alipay.ring(SignType.MD5, alipay.MD5_SECRET)
    params = {**FORM, "seller_id": alipay.SELLER}
    genuine = alipay.signed(params, alipay.MD5_SECRET, "MD5")
    assert explained(alipay.urlencoded(genuine), account, ring).accepted
    upper = explained(alipay.urlencoded({**genuine, "sign": str(genuine["sign"]).upper()}), account, ring)
    assert upper.departures == (Variant.SIGN_UPPER_CASE,)
    assert "which of the two" in explained(alipay.urlencoded({**genuine, "total_amount": "1"}), account, ring).cause
    assert alipay.MD5_SECRET.decode() not in repr(upper)


def test_dsa_mismatch_names_key_and_text_as_possible_causes() -> None:
    account, ring = alipay.mapi(SignType.DSA), alipay.ring(SignType.DSA, alipay.dsa_key())
    body = alipay.form(FORM, alipay.dsa_key(), "DSA")
    assert explained(body, account, ring).accepted
    assert "whether the key or the text" in explained(body.replace(b"9.00", b"0.01"), account, ring).cause


def test_shown_text_is_the_signed_text() -> None:
    params = {**FORM, "buyer_logon_id": ""}
    for blanks in (True, False):
        body = alipay.urlencoded(alipay.signed(params, alipay.rsa_key(), "RSA2", blanks=blanks))
        assert explained(body).signed_text == alipay.canonical(params, blanks=blanks).decode()


def test_wrong_sign_type_with_a_foreign_key_is_not_called_valid() -> None:
    others = {"two": alipay.ring(SignType.RSA2, alipay.rsa_key("two"))}
    found = explained(alipay.form(FORM, alipay.rsa_key("two"), "RSA"), others=others)
    assert "The signature itself is valid" not in found.remedy
    assert "key of another account" in found.cause


def test_signature_that_is_cut_off_is_named() -> None:
    assert "cut off" in of({**SIGNED, "sign": str(SIGNED["sign"])[:101]}).cause
    assert "not well-formed" in of({**SIGNED, "sign": str(SIGNED["sign"]) + "!"}).cause


# Antom

ANTOM = alipay.antom()
ANTOM_RING = alipay.ring(SignType.RSA256, alipay.rsa_key(), alipay.rsa_key("second"), ids=("1", "2"))
BODY = '{"notifyType":"PAYMENT_RESULT","paymentRequestId":"PAY-1","name":"奶茶"}'.encode()


def antom(
    body: bytes = BODY, *, target: str = "/notify/antom-hk", headers: dict[str, str] | None = None, **made: str
) -> Explanation:
    given = headers or alipay.antom_headers(BODY, alipay.rsa_key(), **made)
    found = explain.explain(Captured(body=body, headers=given, target=target), ANTOM, ANTOM_RING)
    assert found.accepted or verify_advice.FAILED in found.cause
    return found


def test_antom_message_is_accepted_with_its_text() -> None:
    found = antom()
    assert found.accepted
    assert found.signed_text.startswith("POST /notify/antom-hk\n")


@pytest.mark.parametrize(
    ("variant", "signed", "target"),
    [
        (Variant.TRAILING_SLASH, "/notify/antom-hk/", "/notify/antom-hk"),
        (Variant.PATH_OF_REQUEST, "/pay/n", "/pay/n"),
        (Variant.PATH_WITH_QUERY, "/notify/antom-hk?a=1", "/notify/antom-hk?a=1"),
        (Variant.PATH_WITH_QUERY, "/pay/n?a=1", "/pay/n?a=1"),
    ],
)
def test_other_signed_path_is_named(variant: Variant, signed: str, target: str) -> None:
    assert antom(target=target, path=signed).departures == (variant,)


def test_json_body_that_was_written_again_is_named() -> None:
    assert antom(json.dumps(json.loads(BODY)).encode()).departures == (Variant.BODY_COMPACTED,)
    assert antom(BODY + b"\n").departures == (Variant.BODY_TRIMMED,)
    spaced = json.dumps(json.loads(BODY), ensure_ascii=False).encode()
    headers = alipay.antom_headers(spaced, alipay.rsa_key())
    assert antom(BODY, headers=headers).departures == (Variant.BODY_SPACED,)


def test_mixed_up_key_versions_are_named() -> None:
    assert antom(key_version="2").departures == (Variant.OTHER_KEY_OF_ACCOUNT,)
    changed = antom(BODY.replace(b"PAY-1", b"PAY-2"), key_version="2")
    assert "over another text" in changed.cause
    unknown = antom(key_version="9")
    assert unknown.reason is Refusal.UNKNOWN_KEY
    assert "key version 1" in unknown.cause


def test_message_without_signing_headers_names_those_that_are_needed() -> None:
    found = explain.explain(Captured(body=BODY), ANTOM, ANTOM_RING)
    assert (found.accepted, found.reason) == (False, Refusal.MISSING_SIGN)
    assert "client-id" in found.remedy
    assert not antom(headers={"signature": "nonsense", "client-id": "C", "request-time": "x"}).accepted


@given(st.binary(max_size=60), st.sampled_from(["a=1&sign=", "sign_type=RSA2&sign=QUJD&x=", ""]))
def test_random_bodies_are_neither_accepted_nor_raise(junk: bytes, start: str) -> None:
    assert not explained(start.encode() + junk).accepted


@pytest.mark.parametrize(
    ("until_ms", "accepted", "cause"),
    [(2**52, True, "which counts until 2099-12-31"), (1, False, "which ended (until = 2099-12-31)")],
)
def test_old_algorithm_is_named_with_its_end(until_ms: int, accepted: bool, cause: str) -> None:
    entry = RetiringAlgorithm(sign_type=SignType.RSA, until="2099-12-31", until_ms=until_ms)
    old = alipay.rsa_key("old")
    former = KeyRing("shop", SignType.RSA, alipay.ring(SignType.RSA, old).keys, until="2099-12-31", until_ms=until_ms)
    body = alipay.form({"app_id": alipay.APP, "seller_id": alipay.SELLER}, old, "RSA")
    ring = KeyRing("shop", SignType.RSA2, RING.keys, retiring=(former,))
    found = explain.explain(Captured(body=body), alipay.openapi(retiring=(entry,)), ring)
    assert (found.accepted, found.sign_type) == (accepted, "RSA")
    assert "old (retiring) algorithm RSA" in found.cause
    assert cause in found.cause


OLD_KEY, OLDER_KEY = alipay.rsa_key("old"), alipay.rsa_key("removed")


def moved(until_ms: int = 2**52) -> tuple[Account, KeyRing]:
    """An account that moved from RSA to RSA2."""
    entry = RetiringAlgorithm(sign_type=SignType.RSA, until="2099-12-31", until_ms=until_ms)
    keys = (Key("old.pem", OLD_KEY.public_key()),)
    former = KeyRing("shop-cn", SignType.RSA, keys, until="2099-12-31", until_ms=until_ms)
    return alipay.openapi(retiring=(entry,)), KeyRing("shop-cn", SignType.RSA2, RING.keys, retiring=(former,))


def signed_by(key: str, algorithm: str, *, names: str) -> bytes:
    """The form, signed with this key by this algorithm, and with another `sign_type` written into it."""
    signer = {"own": alipay.rsa_key(), "old": OLD_KEY, "removed": OLDER_KEY}[key]
    return alipay.urlencoded({**alipay.signed(FORM, signer, algorithm), "sign_type": names})


@pytest.mark.parametrize(
    ("key", "algorithm", "names", "departures", "cause", "remedy"),
    [
        ("old", "RSA", "RSA2", (Variant.KEY_OF_OTHER_ALGORITHM,), "old.pem (RSA), a key of this account", "forward it"),
        ("own", "RSA2", "RSA", (Variant.KEY_OF_OTHER_ALGORITHM,), "k0 (RSA2), a key of this account", "forward it"),
        ("own", "RSA", "RSA2", (Variant.OTHER_HASH,), "RSA is SHA-1, RSA2", "the hash of the sign_type"),
        ("old", "RSA2", "RSA", (Variant.OTHER_HASH,), "RSA is SHA-1, RSA2", "the hash of the sign_type"),
        ("removed", "RSA2", "RSA2", (Variant.UNLISTED_KEY,), "removed.pem, a key file that no account", "again"),
        ("removed", "RSA", "RSA", (Variant.UNLISTED_KEY,), "removed.pem, a key file that no account", "again"),
    ],
)
def test_signature_by_another_key_or_hash_of_a_moved_account_is_named(
    key: str, algorithm: str, names: str, departures: tuple[Variant, ...], cause: str, remedy: str
) -> None:
    account, ring = moved()
    unlisted = [Key("removed.pem", OLDER_KEY.public_key())]
    body = signed_by(key, algorithm, names=names)
    found = explain.explain(Captured(body=body), account, ring, unlisted=unlisted)
    assert (found.accepted, found.departures) == (False, departures)
    assert cause in found.cause
    assert remedy in found.remedy
    assert one_sentence(found)


def test_old_algorithm_of_a_key_that_was_removed_is_to_be_named_as_retiring() -> None:
    unlisted = [Key("removed.pem", OLDER_KEY.public_key())]
    found = explain.explain(Captured(body=signed_by("removed", "RSA", names="RSA")), CN, RING, unlisted=unlisted)
    assert (found.reason, found.key) == (Refusal.UNSUPPORTED_SIGN_TYPE, "removed.pem")
    assert "was signed with removed.pem, which no account names any more (旧密钥已移除)" in found.cause
    assert "retiring entry ([[accounts.NAME.retiring]]) with sign_type RSA" in found.remedy
    assert one_sentence(found)


@pytest.mark.parametrize(("pinned", "given"), [(SignType.RSA2, "RSA"), (SignType.RSA, "RSA2")])
def test_algorithm_that_the_account_does_not_have_is_explained_in_both_directions(pinned: SignType, given: str) -> None:
    account, ring = alipay.openapi(sign_type=pinned), alipay.ring(pinned, alipay.rsa_key())
    found = explained(alipay.form(FORM, alipay.rsa_key(), given), account, ring)
    assert (found.reason, found.departures) == (Refusal.UNSUPPORTED_SIGN_TYPE, (Variant.OTHER_HASH,))
    assert f"names sign_type {given} and the account is pinned to {pinned} (签名算法不一致" in found.cause
    assert "retiring entry" in found.remedy
    assert one_sentence(found)


@pytest.mark.parametrize(("until_ms", "accepted"), [(2**52, True), (1, False)])
def test_retiring_algorithm_has_a_cause_and_a_remedy(until_ms: int, accepted: bool) -> None:
    account, ring = moved(until_ms)
    found = explain.explain(Captured(body=signed_by("old", "RSA", names="RSA")), account, ring)
    assert (found.accepted, "旧签名算法" in found.cause, found.key) == (accepted, True, "old.pem")
    assert "until" in found.remedy
    assert accepted or one_sentence(found)
    changed = signed_by("old", "RSA", names="RSA").replace(b"9.00", b"0.01")
    forged = explain.explain(Captured(body=changed), *moved(1))
    assert "no key of the old algorithm signed this text" in forged.cause
    assert "Do not change the account" in forged.remedy


def one_sentence(found: Explanation) -> bool:
    """Return whether cause and remedy are each one sentence."""
    return all(text.count(". ") == 0 and text.endswith(".") for text in (found.cause, found.remedy))
