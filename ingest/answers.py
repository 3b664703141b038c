"""Verify Alipay's answers to our questions: signed by a key of the account, about a trade of its merchant, and asked.

An answer names its merchant only sometimes, and one key of the old gateway signs for all merchants. What binds it to
the account is that we asked, over TLS and in the merchant's name: `confirmed` states that, and a receipt MAC shows it
to workers. Pure.
"""

from collections.abc import Mapping
from typing import Any

from ingest import admission, signature
from ingest.errors import Malformed, NotConfirmed, NotOurs, Unauthentic
from ingest.keys import KeyRing
from schemas import answers
from schemas.accounts import Account, Family
from schemas.answers import BadAnswer
from schemas.dispositions import Refusal
from schemas.record_format import RecordContents


def check(contents: RecordContents, account: Account, ring: KeyRing) -> str:
    """Return the id of the key that verifies an answer, if it is meant for the account.

    Raises:
        Malformed: it is no answer of this family.
        Unauthentic: no active key of the account signed it.
        NotOurs: it is about the trade of another merchant.
        NotConfirmed: nothing shows that we asked for it.
    """
    try:
        key_id = _signer(contents, account, ring)
        named = answers.fields(contents.body, account.family)
    except BadAnswer as bad:
        raise Malformed(Refusal.MALFORMED, str(bad)) from None
    _check_payee(named, account)
    if not contents.confirmed:
        raise NotConfirmed("nothing shows that the answer is to a question of ours")
    return key_id


def _signer(contents: RecordContents, account: Account, ring: KeyRing) -> str:
    if account.family is Family.ANTOM:
        if not contents.signature:
            raise Unauthentic(Refusal.MISSING_SIGN)
        key_id = signature.verify_message(
            contents.body,
            signature_header=contents.signature.decode("ascii", "replace"),
            client_id=contents.client_id,
            request_time=contents.request_time,
            path=contents.path,
            ring=ring,
        )
        admission.admit_message(contents.client_id, account)
        return key_id
    if account.family is Family.OPENAPI:
        return _signer_of_open(answers.read_open(contents.body), ring)
    trade = answers.read_old(contents.body).trade
    if trade is None:
        raise Unauthentic(Refusal.MISSING_SIGN, "an error of the old gateway is not signed")
    return signature.verify_form(trade, ring, contents.received_at_ms)


def _signer_of_open(answer: answers.OpenAnswer, ring: KeyRing) -> str:
    if not answer.signature:
        raise Unauthentic(Refusal.MISSING_SIGN)
    if answer.certificate and answer.certificate not in ring.certificate_numbers():
        raise Unauthentic(Refusal.UNKNOWN_KEY)
    key = signature.signer(answer.signed_text, answer.signature, ring)
    if key is None:
        raise Unauthentic(Refusal.BAD_SIGNATURE)
    return key.id


def _check_payee(named: Mapping[str, Any], account: Account) -> None:
    own, given = account.seller_id or account.partner, named.get("seller_id")
    if own and given and given != own:
        raise NotOurs("seller_id is not the account's")
