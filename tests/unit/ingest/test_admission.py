"""Only messages that name the account are admitted."""

from typing import Any

import pytest

from ingest import admission
from ingest.errors import NotOurs, Unauthentic
from schemas import form as forms
from schemas import times
from schemas.accounts import Account, SignType
from schemas.dispositions import Refusal
from tests.support import alipay

OTHER = "2088000000000000"


def admit(account: Account, *, is_confirmed: bool | None = None, **params: Any) -> None:
    admission.admit_form(
        forms.read(alipay.urlencoded({"out_trade_no": "A-1", **params})), account, is_confirmed=is_confirmed
    )


def refused(account: Account, **params: Any) -> None:
    with pytest.raises(NotOurs) as caught:
        admit(account, **params)
    assert (caught.value.status, caught.value.reason) == (403, Refusal.NOT_OURS)


def test_form_with_the_account_s_identities_is_admitted() -> None:
    admit(alipay.openapi(), app_id=alipay.APP, auth_app_id=alipay.APP, seller_id=alipay.SELLER)
    admit(alipay.mapi(), seller_id=alipay.SELLER)


def test_b05_b06_each_identity_of_another_merchant_is_refused() -> None:
    ours = {"app_id": alipay.APP, "auth_app_id": alipay.APP, "seller_id": alipay.SELLER}
    for name in ours:
        refused(alipay.openapi(), **(ours | {name: OTHER}))
    refused(alipay.mapi(), seller_id=OTHER)


def test_identities_are_compared_as_bytes() -> None:
    for seller in (f" {alipay.SELLER}", f"{alipay.SELLER} ", alipay.SELLER + "\x00", "２" + alipay.SELLER[1:]):
        refused(alipay.mapi(), seller_id=seller)


TRADE: dict[str, Any] = {"notify_type": "trade_status_sync"}
MANDATE: dict[str, Any] = {"notify_type": "dut_user_unsign", "out_trade_no": ""}


@pytest.mark.parametrize("type_", [TRADE, {}])
def test_trade_that_lacks_a_configured_payee_is_refused(type_: dict[str, Any]) -> None:
    refused(alipay.mapi(), **type_)
    refused(alipay.mapi(), seller_id="", **type_)
    refused(alipay.mapi(), partner_id=alipay.SELLER, **type_)
    refused(alipay.openapi(), app_id=alipay.APP, **type_)
    refused(alipay.openapi(), seller_id=alipay.SELLER, **type_)
    refused(alipay.openapi(auth_app_id="A"), app_id=alipay.APP, seller_id=alipay.SELLER, **type_)


def test_refund_of_one_trade_needs_the_payee_under_any_type() -> None:
    refunds: list[dict[str, Any]] = [{"refund_fee": "1.00"}, {"refund_status": "REFUND_SUCCESS"}]
    for refund in refunds:
        refused(alipay.openapi(), app_id=alipay.APP, notify_type="refund", **refund)
        refused(alipay.mapi(), partner_id=alipay.SELLER, notify_type="refund", **refund)
        admit(alipay.openapi(), app_id=alipay.APP, seller_id=alipay.SELLER, notify_type="refund", **refund)


@pytest.mark.parametrize(
    "type_",
    [
        {"notify_type": "dut_user_sign"},
        MANDATE,
        {"notify_type": "fund_auth_freeze"},
        {"notify_type": "open_app_auth_notify"},
        {"msg_method": "alipay.fund.trans.order.changed", "version": "1.1", "biz_content": "{}"},
    ],
)
def test_form_that_moves_no_money_needs_only_the_application(type_: dict[str, Any]) -> None:
    admit(alipay.openapi(), app_id=alipay.APP, **type_)
    admit(alipay.openapi(auth_app_id="A"), app_id=alipay.APP, **type_)
    refused(alipay.openapi(), **type_)
    refused(alipay.openapi(), app_id="", **type_)
    for name in ("app_id", "auth_app_id", "seller_id", "partner_id"):
        refused(alipay.openapi(), **({"app_id": alipay.APP, name: OTHER} | type_))


@pytest.mark.parametrize("name", ["seller_id", "partner_id", "pay_user_id"])
def test_old_gateway_names_the_merchant_in_one_of_three_parameters(name: str) -> None:
    admit(alipay.mapi(), **MANDATE | {name: alipay.SELLER})
    refused(alipay.mapi(), **MANDATE | {name: OTHER})
    refused(alipay.mapi(), **MANDATE | {name: ""})
    refused(alipay.mapi(), **MANDATE)
    refused(alipay.mapi(SignType.MD5, keys={}), **MANDATE)


def test_partner_is_compared_with_the_account_s_partner() -> None:
    account = alipay.mapi(partner="2088999900001018")
    for name in ("partner_id", "pay_user_id"):
        admit(account, **MANDATE | {name: "2088999900001018"})
        refused(account, **MANDATE | {name: alipay.SELLER})
    refused(account, seller_id=alipay.SELLER, partner_id=alipay.SELLER)
    refused(account, is_confirmed=True, partner_id=alipay.SELLER)


def test_batch_refund_is_admitted_unless_it_names_another_merchant() -> None:
    batch: dict[str, Any] = {"notify_type": "batch_refund_notify", "out_trade_no": ""}
    admit(alipay.mapi(), **batch)
    admit(alipay.mapi(), **batch, partner_id=alipay.SELLER)
    refused(alipay.mapi(), **batch, partner_id=OTHER)
    refused(alipay.mapi(), **batch, seller_id=OTHER)
    refused(alipay.openapi(), **batch)


def test_confirmation_allows_missing_identities_but_not_wrong_ones() -> None:
    account = alipay.mapi(notify_verify=True)
    admit(account)
    refused(account, seller_id=OTHER)
    refused(account, is_confirmed=False)
    admit(alipay.mapi(), is_confirmed=True)


def test_auth_app_id_without_service_provider_is_the_application_or_absent() -> None:
    admit(alipay.openapi(), app_id=alipay.APP, seller_id=alipay.SELLER)
    refused(alipay.openapi(), app_id=alipay.APP, seller_id=alipay.SELLER, auth_app_id=OTHER)


def test_service_provider_must_name_the_merchant_s_application() -> None:
    account = alipay.openapi(auth_app_id="2021000000000009")
    admit(account, app_id=alipay.APP, auth_app_id="2021000000000009", seller_id=alipay.SELLER)
    refused(account, app_id=alipay.APP, auth_app_id=alipay.APP, seller_id=alipay.SELLER)


def test_identities_that_the_account_lacks_are_not_checked() -> None:
    admit(alipay.openapi(seller_id=None), app_id=alipay.APP, seller_id=OTHER)


def test_c08_ambiguous_form_is_admitted_by_the_same_rules() -> None:
    hidden = "S&total_amount=9999.00&trade_aaa="
    admit(alipay.mapi(), subject=hidden, seller_id=alipay.SELLER)
    refused(alipay.mapi(), subject=hidden, seller_id=OTHER)


def test_c10_c11_other_ampersands_are_admitted() -> None:
    admit(alipay.mapi(), subject='a&b=c & "50%" + total_amount', seller_id=alipay.SELLER)


def test_s28_form_that_names_an_unknown_certificate_is_refused() -> None:
    form = forms.read(b"alipay_cert_sn=abc&out_trade_no=1")
    admission.admit_certificate(form, iter(["xyz", "abc"]))
    admission.admit_certificate(forms.read(b"out_trade_no=1"), [])
    admission.admit_certificate(forms.read(b"alipay_cert_sn="), [])
    for numbers in ([], ["abcd"], ["ABC"]):
        with pytest.raises(Unauthentic) as caught:
            admission.admit_certificate(form, numbers)
        assert caught.value.reason is Refusal.UNKNOWN_KEY


def test_n13_antom_message_for_another_client_is_refused() -> None:
    admission.admit_message(alipay.CLIENT.encode(), alipay.antom())
    for client_id in (b"", b"SANDBOX_2", alipay.CLIENT.lower().encode(), alipay.CLIENT.encode() + b" "):
        with pytest.raises(NotOurs):
            admission.admit_message(client_id, alipay.antom())
    with pytest.raises(NotOurs):
        admission.admit_message(b"", alipay.antom(client_id=None))


def test_n15_resend_period_is_exact() -> None:
    span_ms = 25 * 3_600_000
    assert not admission.is_stale(b"1742279467000", now_ms=1742279467000 + span_ms)
    assert admission.is_stale(b"1742279467000", now_ms=1742279467000 + span_ms + 1)


@pytest.mark.parametrize(
    ("hours", "is_stale"), [(0, False), (24.9, False), (25.1, True), (30, True), (-24.9, False), (-26, True)]
)
def test_n15_request_time_outside_the_resend_period_is_stale(hours: float, is_stale: bool) -> None:
    sent = times.parse_iso("2025-03-18T06:31:07Z")
    now_ms = times.to_epoch_ms(sent) + int(hours * 3_600_000)
    assert admission.is_stale(b"2025-03-18T06:31:07Z", now_ms=now_ms) is is_stale
    assert admission.is_stale(b"%d" % times.to_epoch_ms(sent), now_ms=now_ms) is is_stale


PROVIDER: dict[str, Any] = {"app_id": alipay.APP, "seller_id": alipay.SELLER}


def test_service_provider_admits_its_merchants_and_no_other() -> None:
    listed = alipay.openapi(auth_app_ids=("2021000000000008", "2021000000000009"))
    admit(listed, auth_app_id="2021000000000008", **PROVIDER, **TRADE)
    refused(listed, auth_app_id="2021000000000007", **PROVIDER, **TRADE)
    refused(listed, auth_app_id="2021000000000007", **PROVIDER, **MANDATE)
    admit(alipay.openapi(auth_app_ids=("any",)), auth_app_id="2021000000000007", **PROVIDER, **TRADE)


def test_trade_that_names_no_merchant_is_the_service_provider_s_own() -> None:
    listed = alipay.openapi(auth_app_ids=("2021000000000008",))
    refused(listed, **PROVIDER, **TRADE)
    admit(listed, **PROVIDER, **MANDATE)
    admit(alipay.openapi(auth_app_ids=(alipay.APP,)), **PROVIDER, **TRADE)
    admit(alipay.openapi(auth_app_ids=("any",)), **PROVIDER, **TRADE)


def test_another_application_is_refused_also_at_a_service_provider() -> None:
    refused(alipay.openapi(auth_app_ids=("any",)), **(PROVIDER | {"app_id": OTHER}), auth_app_id="2021", **TRADE)
