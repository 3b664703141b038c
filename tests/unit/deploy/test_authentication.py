"""What a process believes of a record: the signature, and what its own side vouches for."""

from itertools import pairwise
from pathlib import Path

import pytest
from msgspec import structs

from deploy.authentication import Authenticator, believing_the_log
from ingest.errors import NotConfirmed, Refused
from ingest.keys import Rings
from schemas.accounts import Account, SignType
from schemas.record_format import RecordContents
from tests.support import alipay

SECRET = b"s" * 32
NAMELESS = {"out_trade_no": "W-1", "notify_id": "N-2", "total_fee": "9.00"}  # a website's notification names no payee


@pytest.fixture
def account(tmp_path: Path) -> Account:
    """One that has every notification confirmed, since its notifications may name nobody."""
    name = alipay.written(tmp_path, "alipay.pem", alipay.pem(alipay.rsa_key()))
    return alipay.mapi(SignType.RSA2, seller_id=None, notify_verify=True, keys={"k0": name})


@pytest.fixture
def rings(account: Account, tmp_path: Path) -> Rings:
    return Rings({account.name: account}, tmp_path)


def claiming(account: Account, **changes: str) -> RecordContents:
    """A record that says it was confirmed. Alipay signed it, for whomever."""
    return RecordContents(
        account=account.name,
        family=account.family.value,
        received_at_ms=1,
        path=b"/notify/shop",
        content_type=b"",
        key_id="k0",
        confirmed=True,
        body=alipay.form({**NAMELESS, **changes}, alipay.rsa_key(), "RSA2"),
    )


def test_where_there_are_receipts_a_header_alone_confirms_nothing(account: Account, rings: Rings) -> None:
    trust, written_by_hand = Authenticator(rings, [SECRET]), claiming(account)
    for receipt in (b"", b"guessed", Authenticator(rings, [b"other" * 8]).receipt(written_by_hand)):
        for anew in (False, True):
            with pytest.raises(NotConfirmed):
                trust.authenticate(structs.replace(written_by_hand, receipt=receipt), account, anew=anew)
            with pytest.raises(NotConfirmed):
                trust.authenticate_anew(structs.replace(written_by_hand, receipt=receipt), account)


def test_a_receipt_vouches_for_the_confirmation_also_where_the_signature_is_checked_anew(
    account: Account, rings: Rings
) -> None:
    trust = Authenticator(rings, [SECRET])
    received = structs.replace(claiming(account), receipt=trust.receipt(claiming(account)))
    trust.authenticate(received, account)
    trust.authenticate(received, account, anew=True)


def test_a_receipt_vouches_for_no_signature_that_is_checked_anew(account: Account, rings: Rings) -> None:
    trust = Authenticator(rings, [SECRET])
    unsigned = structs.replace(claiming(account), body=alipay.urlencoded(NAMELESS))
    received = structs.replace(unsigned, receipt=trust.receipt(unsigned))
    trust.authenticate(received, account)
    with pytest.raises(Refused):
        trust.authenticate(received, account, anew=True)


def test_without_receipts_and_in_a_log_of_our_own_the_header_is_all_there_is(account: Account, rings: Rings) -> None:
    Authenticator(rings, []).authenticate(claiming(account), account)
    Authenticator(rings, [SECRET], is_log_private=True).authenticate(claiming(account), account)


def test_a_secret_is_changed_while_receivers_and_workers_know_both(account: Account, rings: Rings) -> None:
    old, new = SECRET, b"n" * 32
    told = claiming(account)
    steps = [Authenticator(rings, secrets) for secrets in ([old], [old, new], [new, old], [new])]
    for receiver, worker in [*pairwise(steps), *pairwise(reversed(steps))]:
        worker.authenticate(structs.replace(told, receipt=receiver.receipt(told)), account)
    with pytest.raises(NotConfirmed):
        steps[-1].authenticate(structs.replace(told, receipt=steps[0].receipt(told)), account)


def test_accounts_of_which_a_log_is_believed_are_known(account: Account) -> None:
    assert believing_the_log([account], []) == [account.name]
    assert believing_the_log([account], [SECRET]) == []
    assert believing_the_log([structs.replace(account, notify_verify=False)], []) == []
