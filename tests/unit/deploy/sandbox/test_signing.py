"""The sandbox's signer against the shared vectors and against `cryptography` itself."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from deploy.sandbox import signing
from tests.support.paths import VECTORS

FIELDS = (("b", "two + 2"), ("a", "一"), ("sign_type", "RSA2"), ("c", "100%&d=1"))


def vector(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    return loaded


def forms() -> list[str]:
    """Return the vectors whose signed text is built from a form's parameters."""
    names = sorted(path.stem for path in VECTORS.glob("*.json"))
    return [name for name in names if vector(name)["excluded_from_signature"] and vector(name)["params"]]


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize("name", forms())
def test_signed_text_of_every_form_vector_is_built(name: str) -> None:
    one = vector(name)
    built = signing.canonical(one["params"].items(), charset=one["charset"], left_out=one["excluded_from_signature"])
    assert built == one["signed_content"].encode(one["charset"])


def test_there_are_form_vectors() -> None:
    assert len(forms()) >= 6


@pytest.mark.parametrize("name", [name for name in forms() if not (vector(name)["raw_body"] or "<").startswith("<")])
def test_encoded_form_parses_back_to_the_vectors_fields(name: str) -> None:
    one = vector(name)
    written = signing.encode_form(one["params"].items(), charset=one["charset"]).decode()
    assert dict(parse_qsl(written, keep_blank_values=True, encoding=one["charset"])) == one["params"]


def test_signed_text_of_a_genuine_antom_message_is_built() -> None:
    one = vector("antom_notifypayment_rsa256_2019")
    built = signing.antom_content(
        method=one["http_method"],
        path=one["request_path"],
        client_id=one["headers"]["client-id"],
        request_time=one["headers"]["request-time"],
        body=one["raw_body"].encode(),
    )
    assert built == one["signed_content"].encode()


def test_antom_signature_header_is_built() -> None:
    one = vector("antom_notifypayment_rsa256_2019")
    assert signing.antom_header(one["signature"], key_version=1) == one["headers"]["signature"]


@pytest.mark.parametrize("name", sorted(path.stem for path in VECTORS.glob("*.json")))
def test_verification_agrees_with_every_vector(name: str) -> None:
    one = vector(name)
    if one["md5_key"]:
        key: signing.PublicKey = one["md5_key"].encode()
    else:
        loaded = load_der_public_key(b64decode(one["public_key"]))
        assert isinstance(loaded, rsa.RSAPublicKey)
        key = loaded
    content = one["signed_content"].encode(one["charset"])
    agreed = signing.verify(content, one["signature"], sign_type=one["algorithm"], key=key)
    assert agreed is one["expected"]


def test_md5_appends_the_key_to_the_text() -> None:
    one = vector("mapi_md5_chloerei_notify")
    signer = signing.Signer.of("MD5", one["md5_key"].encode())
    assert signer.sign(one["signed_content"].encode()) == one["signature"]


@pytest.mark.parametrize(("sign_type", "hash_"), [("RSA", hashes.SHA1()), ("RSA2", hashes.SHA256())])
def test_form_verifies_with_the_hash_of_its_sign_type(
    rsa_key: rsa.RSAPrivateKey, sign_type: signing.SignType, hash_: hashes.HashAlgorithm
) -> None:
    signed = dict(signing.signed_fields(FIELDS, signer=signing.Signer.of(sign_type, rsa_key), charset="gbk"))
    text = "a=一&b=two + 2&c=100%&d=1".encode("gbk")
    rsa_key.public_key().verify(b64decode(signed["sign"]), text, padding.PKCS1v15(), hash_)


def test_dsa_verifies_over_sha1() -> None:
    key = dsa.generate_private_key(1024)
    signature = signing.Signer.of("DSA", key).sign(b"text")
    key.public_key().verify(b64decode(signature), b"text", hashes.SHA1())
    assert signing.verify(b"text", signature, sign_type="DSA", key=key.public_key())


def test_in_app_return_is_signed_in_the_merchants_order(rsa_key: rsa.RSAPrivateKey) -> None:
    order = 'partner="2088"&out_trade_no="Z-1"&body="a b"'
    text = signing.in_app_result(order, signer=signing.Signer.of("RSA", rsa_key))
    assert text.startswith("resultStatus={9000};memo={};result={partner=")
    result = text.split("result={", 1)[1][:-1]
    content, rest = result.split("&sign_type=", 1)
    assert content == f'{order}&success="true"'
    signature = b64decode(rest.split('sign="', 1)[1][:-1])
    rsa_key.public_key().verify(signature, content.encode(), padding.PKCS1v15(), hashes.SHA1())


def test_open_platforms_app_signs_the_raw_text_of_the_inner_object(rsa_key: rsa.RSAPrivateKey) -> None:
    fields = (("code", "10000"), ("out_trade_no", "A/1"), ("total_amount", "9.00"))
    made = signing.open_app_return(fields, signer=signing.Signer.of("RSA2", rsa_key))
    message = json.loads(made)
    assert message["alipay_trade_app_pay_response"] == dict(fields)
    raw = made.partition('"alipay_trade_app_pay_response":')[2].partition(',"sign"')[0]
    assert signing.verify(raw.encode(), message["sign"], sign_type="RSA2", key=rsa_key.public_key())
    assert message["sign_type"] == "RSA2"


def test_in_app_return_has_the_shape_of_the_documents(rsa_key: rsa.RSAPrivateKey) -> None:
    one = vector("mapi_app_return_string_doc_sample")
    order = one["raw_body"].split('&success="true"')[0]
    made = signing.in_app_return(order, signer=signing.Signer.of("RSA", rsa_key))
    assert made.split("&sign=")[0] == one["raw_body"].split("&sign=")[0]
    assert made.startswith(one["signed_content"])


def test_return_query_verifies_like_a_form(rsa_key: rsa.RSAPrivateKey) -> None:
    query = signing.return_query(
        (("total_fee", "1.00"), ("out_trade_no", "A+1")), signer=signing.Signer.of("RSA", rsa_key)
    )
    sign = unquote(query.split("sign=", 1)[1])
    assert "out_trade_no=A%2B1" in query
    rsa_key.public_key().verify(b64decode(sign), b"out_trade_no=A+1&total_fee=1.00", padding.PKCS1v15(), hashes.SHA1())


def test_gbk_text_is_encoded_as_gbk_bytes() -> None:
    written = signing.encode_form((("subject", "奶茶 *"),), charset="gbk")
    assert written == b"subject=%C4%CC%B2%E8+*"
    assert unquote_to_bytes(written.split(b"=")[1].replace(b"+", b" ")) == "奶茶 *".encode("gbk")


@pytest.mark.parametrize("sign_type", ["MD5", "DSA"])
def test_key_of_another_kind_is_refused(rsa_key: rsa.RSAPrivateKey, sign_type: signing.SignType) -> None:
    with pytest.raises(signing.KeyKindError, match=sign_type):
        signing.Signer.of(sign_type, rsa_key)


def test_repr_shows_no_key() -> None:
    assert "a-secret" not in repr(signing.Signer.of("MD5", b"a-secret"))


@pytest.mark.parametrize("signature", ["", "%%%", "AAAA", "é"])
def test_malformed_signature_is_wrong_and_not_an_error(rsa_key: rsa.RSAPrivateKey, signature: str) -> None:
    assert not signing.verify(b"text", signature, sign_type="RSA", key=rsa_key.public_key())
    assert not signing.verify(b"text", signature, sign_type="MD5", key=b"key")


def test_md5_verifies_an_md5_signature() -> None:
    assert signing.verify(b"t", hashlib.md5(b"tk").hexdigest(), sign_type="MD5", key=b"k")
