"""Authentication of records: by signature, by receipt, and the header `confirmed`."""

from itertools import pairwise
from pathlib import Path

import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from deploy.accounts_reload import AccountsReloader, ReloadGauges
from deploy.authentication import Authenticator, FilesInUse, forgeable_confirmations
from ingest import accounts_in_use
from ingest.accounts_in_use import AccountsInUse
from ingest.clock import SystemClock
from ingest.errors import NotConfirmed, Refused, Unauthentic
from schemas.accounts import Account, RetiringAlgorithm, SignType
from schemas.record_format import RecordContents
from tests.support import alipay
from tests.support.fakes import MemoryLogger

SECRET = b"s" * 32
NAMELESS = {"out_trade_no": "W-1", "notify_id": "N-2", "total_fee": "9.00"}  # website notifications name no payee


@pytest.fixture
def account(tmp_path: Path) -> Account:
    """An account that confirms every notification, because its notifications may name no payee."""
    name = alipay.written(tmp_path, "alipay.pem", alipay.pem(alipay.rsa_key()))
    return alipay.mapi(SignType.RSA2, seller_id=None, notify_verify=True, keys={"k0": name})


@pytest.fixture
def accounts(account: Account, tmp_path: Path) -> AccountsInUse:
    return AccountsInUse(accounts_in_use.load({account.name: account}, tmp_path))


def confirmed_record(account: Account, **changes: str) -> RecordContents:
    """A record whose header states that it was confirmed. Alipay signed it, perhaps for another merchant."""
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


def test_header_confirmed_counts_only_with_a_valid_receipt(account: Account, accounts: AccountsInUse) -> None:
    authenticator, forged = Authenticator(accounts, [SECRET]), confirmed_record(account)
    for receipt in (b"", b"guessed", Authenticator(accounts, [b"other" * 8]).receipt(forged)):
        for anew in (False, True):
            with pytest.raises(NotConfirmed):
                authenticator.authenticate(structs.replace(forged, receipt=receipt), account, anew=anew)
            with pytest.raises(NotConfirmed):
                authenticator.authenticate_anew(structs.replace(forged, receipt=receipt), account)


def test_valid_receipt_keeps_the_confirmation_if_the_signature_is_checked_anew(
    account: Account, accounts: AccountsInUse
) -> None:
    authenticator = Authenticator(accounts, [SECRET])
    received = structs.replace(confirmed_record(account), receipt=authenticator.receipt(confirmed_record(account)))
    assert authenticator.authenticate(received, account)
    assert authenticator.authenticate(received, account, anew=True)
    assert authenticator.authenticate_anew(received, account)


def test_forged_confirmation_of_a_batch_refund_does_not_count(accounts: AccountsInUse, account: Account) -> None:
    named = structs.replace(account, seller_id=alipay.SELLER, notify_verify=False)
    forged = confirmed_record(named, notify_type="batch_refund_notify")
    authenticator = Authenticator(accounts, [SECRET])
    assert not authenticator.authenticate(forged, named)
    assert not authenticator.authenticate_anew(forged, named)
    received = structs.replace(forged, confirmed=False)
    assert not authenticator.authenticate(structs.replace(received, receipt=authenticator.receipt(received)), named)


def test_valid_receipt_does_not_replace_a_signature_that_is_checked_anew(
    account: Account, accounts: AccountsInUse
) -> None:
    authenticator = Authenticator(accounts, [SECRET])
    unsigned = structs.replace(confirmed_record(account), body=alipay.urlencoded(NAMELESS))
    received = structs.replace(unsigned, receipt=authenticator.receipt(unsigned))
    authenticator.authenticate(received, account)
    with pytest.raises(Refused):
        authenticator.authenticate(received, account, anew=True)


def test_header_confirmed_counts_without_receipt_keys_and_in_a_private_log(
    account: Account, accounts: AccountsInUse
) -> None:
    Authenticator(accounts, []).authenticate(confirmed_record(account), account)
    Authenticator(accounts, [SECRET], is_log_private=True).authenticate(confirmed_record(account), account)


def test_receipt_key_is_rotated_without_refusing_a_record(account: Account, accounts: AccountsInUse) -> None:
    old, new = SECRET, b"n" * 32
    record = confirmed_record(account)
    steps = [Authenticator(accounts, secrets) for secrets in ([old], [old, new], [new, old], [new])]
    for receiver, worker in [*pairwise(steps), *pairwise(reversed(steps))]:
        worker.authenticate(structs.replace(record, receipt=receiver.receipt(record)), account)
    with pytest.raises(NotConfirmed):
        steps[-1].authenticate(structs.replace(record, receipt=steps[0].receipt(record)), account)


def test_accounts_with_notify_verify_are_forgeable_without_receipt_keys(account: Account) -> None:
    assert forgeable_confirmations([account], []) == [account.name]
    assert forgeable_confirmations([account], [SECRET]) == []
    assert forgeable_confirmations([structs.replace(account, notify_verify=False)], []) == []


def test_retiring_key_counts_by_the_time_of_receipt(tmp_path: Path) -> None:
    old = alipay.rsa_key("old")
    alipay.written(tmp_path, "new.pem", alipay.pem(alipay.rsa_key()))
    alipay.written(tmp_path, "old.pem", alipay.pem(old))
    entry = RetiringAlgorithm(sign_type=SignType.RSA, until="x", until_ms=1000, keys={"old.pem": "old.pem"})
    account = alipay.mapi(SignType.RSA2, keys={"new.pem": "new.pem"}, retiring=(entry,))
    accounts = AccountsInUse(accounts_in_use.load({account.name: account}, tmp_path))
    body = alipay.form({**NAMELESS, "seller_id": alipay.SELLER}, old, "RSA")
    record = structs.replace(confirmed_record(account), body=body, confirmed=False)
    private, shared = Authenticator(accounts, []), Authenticator(accounts, [SECRET])
    private.authenticate(record, account, anew=True)
    shared.authenticate_anew(structs.replace(record, receipt=shared.receipt(record)), account)
    with pytest.raises(Refused):
        private.authenticate(structs.replace(record, received_at_ms=1000), account)
    with pytest.raises(Refused):  # no receipt: any writer of the topic may have made up the time
        shared.authenticate(record, account)


def lacking(authenticator: Authenticator, contents: RecordContents, account: Account) -> str:
    """What the check of this record lacks; it has to refuse the record."""
    with pytest.raises(Refused) as caught:
        authenticator.authenticate(contents, account)
    return authenticator.lacking(contents, account, caught.value)


@pytest.fixture
def shop(tmp_path: Path) -> Account:
    alipay.written(tmp_path, "shop.pem", alipay.pem(alipay.rsa_key()))
    return alipay.openapi(keys={"shop.pem": "shop.pem"})


@pytest.fixture
def in_use(shop: Account, tmp_path: Path) -> AccountsInUse:
    return AccountsInUse(accounts_in_use.load({shop.name: shop}, tmp_path))


def received(in_use: AccountsInUse, account: Account, key: str = "", **changes: object) -> RecordContents:
    """A record as a receiver writes it that has the account's key, or another one under another name."""
    fields = {"out_trade_no": "A", "notify_id": "N", "app_id": alipay.APP, "total_amount": "9.00"}
    fields["seller_id"] = alipay.SELLER
    record = RecordContents(
        account=account.name,
        family=account.family.value,
        received_at_ms=1,
        path=b"",
        content_type=b"",
        key_id="shop.pem",
        confirmed=False,
        body=alipay.form(fields, alipay.rsa_key(key) if key else alipay.rsa_key(), "RSA2"),
        key_digest=in_use.ring(account.name).digests["shop.pem"],
    )
    return structs.replace(record, **changes)


def test_record_under_a_key_that_is_missing_here_lacks_it(shop: Account, in_use: AccountsInUse) -> None:
    for keys in ([], [SECRET]):
        authenticator = Authenticator(in_use, keys)
        new = received(in_use, shop, "new", key_id="new.pem", key_digest=b"0" * 16)
        assert lacking(authenticator, new, shop).startswith("the key new.pem of its receiver is missing here")
        of_older_release = structs.replace(new, key_digest=b"")
        assert lacking(authenticator, of_older_release, shop)


def test_record_under_a_key_whose_file_has_another_content_here_lacks_it(shop: Account, in_use: AccountsInUse) -> None:
    """The file was replaced, and the receiver's machine has the new one already."""
    replaced = received(in_use, shop, "new", key_digest=b"0" * 16)
    assert "shop.pem" in lacking(Authenticator(in_use, [SECRET]), replaced, shop)


def test_forged_record_under_a_key_that_is_here_lacks_nothing(shop: Account, in_use: AccountsInUse) -> None:
    authenticator = Authenticator(in_use, [SECRET])
    forged = received(in_use, shop, "stranger")
    assert lacking(authenticator, forged, shop) == ""
    assert lacking(authenticator, structs.replace(forged, key_id=""), shop) == ""
    assert lacking(authenticator, structs.replace(forged, receipt=b"guessed"), shop) == ""
    assert lacking(authenticator, structs.replace(forged, body=b"out_trade_no=A"), shop) == "", "not signed"
    assert lacking(authenticator, structs.replace(forged, body=b"%"), shop) == "", "no form"
    assert authenticator.lacking(forged, shop, RuntimeError()) == ""


@pytest.mark.parametrize("change", [
    {"app_id": "2021999"}, {"seller_id": "2088999"}, {"auth_app_id": "2021888"}, {"sign_type": SignType.RSA},
])  # fmt: skip
def test_record_that_other_settings_would_accept_lacks_them(
    change: dict[str, object], shop: Account, in_use: AccountsInUse, tmp_path: Path
) -> None:
    """The receiver has the new settings, the worker the old ones; or the other way round."""
    older = structs.replace(shop, **change)
    accounts = AccountsInUse(accounts_in_use.load({shop.name: older}, tmp_path))
    record = received(in_use, shop)
    if "auth_app_id" in change:
        record = received(in_use, shop, body=alipay.form({
            "out_trade_no": "A", "notify_id": "N", "app_id": alipay.APP, "auth_app_id": "2021777",
            "seller_id": alipay.SELLER, "total_amount": "9.00",
        }, alipay.rsa_key(), "RSA2"))  # fmt: skip
    assert lacking(Authenticator(accounts, []), record, older)


def test_receipt_of_a_key_that_is_missing_here_is_missed(account: Account, accounts: AccountsInUse) -> None:
    record = confirmed_record(account)
    new, worker = Authenticator(accounts, [b"n" * 32]), Authenticator(accounts, [SECRET])
    sealed = structs.replace(record, receipt=new.receipt(record))
    assert lacking(worker, sealed, account) == "its receipt MAC was made with a receipt key that is missing here"
    assert new.misses_receipt(sealed) == ""
    assert lacking(worker, record, account) == "its receiver confirmed it without a receipt key, which is set here"
    assert worker.misses_receipt(structs.replace(record, confirmed=False)) == ""
    assert Authenticator(accounts, []).misses_receipt(sealed) == ""


async def test_files_in_use_are_those_of_the_process(shop: Account, in_use: AccountsInUse, tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    text = f'[accounts.{shop.name}]\nfamily = "openapi"\nsign_type = "RSA2"\napp_id = "1"\nkeys = ["shop.pem"]\n'
    path.write_text(text)
    reloader = AccountsReloader(path)
    files = FilesInUse(Authenticator(reloader.in_use, []), reloader)
    assert files.version == 0
    await files.read_again()  # nothing reloads in this process
    path.write_text(text.replace('"1"', '"2"'))
    await reloader.look(gauges=ReloadGauges(CollectorRegistry(), SystemClock()), logger=MemoryLogger())
    assert files.version == 1
    with pytest.raises(Unauthentic) as caught:
        Authenticator(in_use, []).authenticate(received(in_use, shop, "x"), shop)
    assert files.lacking(received(in_use, shop, "x", key_id="x.pem"), shop, caught.value)
