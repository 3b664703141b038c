"""Each shared vector has its expected result, through the code that handles such messages."""

import json
import re
from typing import Any

import pytest

from deploy.verify import capture, explain
from deploy.verify.capture import Captured
from ingest import authenticate, key_files, signature
from ingest.authenticate import SigningHeaders
from ingest.checkout import returns
from ingest.checkout.returns import ReturnVerdict
from ingest.errors import Unauthentic
from ingest.key_files import Md5Secret
from ingest.keys import Key, KeyRing
from schemas import form as forms
from schemas.accounts import Account, SignType
from schemas.dispositions import Refusal
from tests.support import alipay, paths

VECTORS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(paths.VECTORS.glob("*.json"))
}
FORMS = [
    name
    for name, vector in VECTORS.items()
    if vector["raw_body"] and "sign=" in vector["raw_body"] and '="' not in vector["raw_body"]
]
MESSAGES = [name for name, vector in VECTORS.items() if vector["headers"]]
TEXTS = [name for name in VECTORS if name not in FORMS and name not in MESSAGES]

# The documents' key of the old gateway has 1024 bits, which only that family may use.
OLD_GATEWAY = {"RSA": alipay.mapi(SignType.RSA), "RSA2": alipay.mapi(SignType.RSA2)}


def ring(vector: dict[str, Any]) -> KeyRing:
    sign_type = SignType(vector["algorithm"])
    if sign_type is SignType.MD5:
        return KeyRing("shop", sign_type, (Key("k", Md5Secret(vector["md5_key"].encode())),))
    account = alipay.antom() if sign_type is SignType.RSA256 else OLD_GATEWAY[vector["algorithm"]]
    return KeyRing("shop", sign_type, (Key("1", key_files.public_key(vector["public_key"].encode(), account)),))


def test_all_vectors_are_present_and_tried() -> None:
    assert len(VECTORS) == 14
    assert (len(FORMS), len(MESSAGES), len(TEXTS)) == (7, 3, 4)


@pytest.mark.parametrize("name", FORMS)
def test_form_has_the_signed_text_of_its_vector(name: str) -> None:
    vector = VECTORS[name]
    form = forms.read(vector["raw_body"].encode())
    assert forms.signed_text(form) == vector["signed_content"].encode(vector["charset"])
    assert form.sign == vector["signature"].encode()


@pytest.mark.parametrize("name", FORMS)
def test_form_verifies_or_is_refused_as_its_vector_expects(name: str) -> None:
    vector = VECTORS[name]
    form = forms.read(vector["raw_body"].encode())
    if vector["expected"]:
        assert signature.verify_form(form, ring(vector))
        return
    with pytest.raises(Unauthentic):
        signature.verify_form(form, ring(vector))
    # Some name another algorithm than they are checked with: they do not verify under that name's rules removed either.
    assert signature.signer(forms.signed_text(form), form.sign or b"", ring(vector)) is None


def account_of(vector: dict[str, Any]) -> Account:
    return alipay.antom(client_id=vector["headers"]["client-id"], public_path=vector["request_path"])


@pytest.mark.parametrize("name", MESSAGES)
def test_message_verifies_or_is_refused_as_its_vector_expects(name: str) -> None:
    vector = VECTORS[name]
    headers = SigningHeaders(
        *(vector["headers"][header].encode() for header in ("signature", "client-id", "request-time"))
    )
    body = vector["raw_body"].encode()
    if vector["expected"]:
        assert authenticate.check(account_of(vector), ring(vector), body, headers).key_id == "1"
        return
    with pytest.raises(Unauthentic) as caught:
        authenticate.check(account_of(vector), ring(vector), body, headers)
    assert caught.value.reason is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("name", TEXTS)
def test_bare_text_verifies_or_is_refused_as_its_vector_expects(name: str) -> None:
    vector = VECTORS[name]
    text = vector["signed_content"].encode(vector["charset"])
    key = signature.signer(text, vector["signature"].encode(), ring(vector))
    assert (key is not None) is vector["expected"]


def test_signed_text_of_the_query_answer_is_its_trade_s_sorted_children() -> None:
    vector = VECTORS["mapi_global_single_trade_query_rsa2_response"]
    trade = re.search(r"<trade>(.*?)</trade>", vector["raw_body"], re.DOTALL)
    assert trade is not None
    children = re.findall(r"<(\w+)>([^<]*)</\1>", trade[1])
    text = "&".join(f"{name}={value}" for name, value in sorted(children)).encode()
    assert signature.signer(text, vector["signature"].encode(), ring(vector)) is not None


def test_edited_return_is_refused() -> None:
    vector = VECTORS["mapi_app_return_string_doc_sample"]
    found = returns.check(vector["raw_body"], alipay.mapi(partner="2088101568358171"), ring(vector))
    assert (found.verdict, found.reason) == (ReturnVerdict.REFUSED, Refusal.BAD_SIGNATURE)
    assert found.order == "0819145412-6177"


def test_api_answer_verifies_like_an_app_result() -> None:
    vector = VECTORS["openplatform_rsa2_api_response_2019"]
    result = f'{{"alipay_trade_query_response":{vector["raw_body"]},"sign":"{vector["signature"]}","sign_type":"RSA2"}}'
    found = returns.check(result, alipay.openapi(), ring(vector))
    # The signature holds; such an answer names no application, which a Return must.
    assert found.reason is Refusal.NOT_OURS
    spaced = result.replace('","', '", "')
    assert returns.check(spaced, alipay.openapi(), ring(vector)).reason is Refusal.BAD_SIGNATURE


def test_expired_certificate_still_gives_the_verifying_key() -> None:
    vector = VECTORS["openplatform_rsa2_sandbox_cert_plus_sign_2023"]
    certified = key_files.certificate(vector["certificate_pem"].encode(), [], alipay.openapi())
    assert certified.expires_at.year == 2024
    with_key = KeyRing("shop", SignType.RSA2, (Key("c", certified.key, certified.expires_at, certified.number),))
    account = alipay.openapi(app_id=vector["params"]["app_id"], seller_id=vector["params"]["seller_id"])
    found = authenticate.check(account, with_key, vector["raw_body"].encode())
    assert (found.key_id, found.number) == ("c", vector["params"]["out_trade_no"].encode())


CAUSES = {
    "mapi_forex_payline_edited": "over another text",
    "openplatform_doc_sample_2016_unverifiable": "over another text",
    "mapi_forex_md5_odoo_wrong_sign": "another digest",
    "antom_notifypayment_rsa256_2019_reserialised": "was written again",
}


@pytest.mark.parametrize("name", [*FORMS, *MESSAGES])
def test_explanation_has_the_vector_s_result_and_names_the_cause(name: str) -> None:
    vector = VECTORS[name]
    captured: Captured = capture.read(vector["raw_body"].encode())
    if name in MESSAGES:
        account = account_of(vector)
        captured = Captured(body=captured.body, headers=vector["headers"], target=vector["request_path"])
    else:
        account = alipay.mapi(SignType(vector["algorithm"]), seller_id=None, notify_verify=True)
    found = explain.explain(captured, account, ring(vector))
    assert found.accepted is vector["expected"]
    assert CAUSES.get(name, "") in found.cause
