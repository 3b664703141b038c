"""The account's family decides how a body is interpreted."""

import pytest

from schemas import interpret
from schemas.dispositions import Disposition, Reason
from schemas.notification import Kind, Unreadable
from tests.support import alipay, facts

FORM = b"notify_id=n1&notify_type=servicemarket_order_notify"
MESSAGE = b'{"notifyType":"UPDATE_AMOUNT_RESULT","paymentRequestId":"P1","result":{"resultStatus":"S"}}'


@pytest.mark.parametrize("family", ["mapi", "openapi"])
def test_body_of_a_form_family_is_read_as_a_form(family: str) -> None:
    notification = interpret.read(FORM, facts.account(family))
    assert (notification.kind, notification.id) == (Kind.OTHER, "n1")


def test_body_of_antom_is_read_as_json() -> None:
    notification = interpret.read(MESSAGE, facts.account("antom"))
    assert (notification.kind, notification.id) == (Kind.OTHER, "UPDATE_AMOUNT_RESULT:P1:S")


@pytest.mark.parametrize(("family", "body"), [("mapi", MESSAGE), ("openapi", b"a=%zz")])
def test_body_outside_the_family_s_grammar_is_dead(family: str, body: bytes) -> None:
    with pytest.raises(Unreadable) as error:
        interpret.read(body, facts.account(family))
    assert (error.value.reason, error.value.disposition) == (Reason.MALFORMED, Disposition.DEAD)


def test_authentic_body_of_antom_that_is_no_json_is_held() -> None:
    with pytest.raises(Unreadable) as error:
        interpret.read(FORM, facts.account("antom"))
    assert (error.value.reason, error.value.disposition) == (Reason.MALFORMED, Disposition.QUARANTINED)


def test_merchant_of_a_service_provider_is_a_part_of_the_scope() -> None:
    account = alipay.openapi(auth_app_ids=("any",))
    fields = {"notify_type": "trade_status_sync", "notify_id": "n", "out_trade_no": "A", "trade_no": "T"}
    paid = fields | {"trade_status": "TRADE_SUCCESS", "total_amount": "1.00", "gmt_payment": "2025-04-01 10:00:00"}
    body = alipay.urlencoded(paid | {"auth_app_id": "2021000000000008"})
    assert interpret.read(body, account).account == interpret.scope(body, account) == "shop-cn/2021000000000008"
    assert interpret.read(body, alipay.openapi()).account == interpret.scope(body, alipay.openapi()) == "shop-cn"
    for unreadable in (b"%zz", b"subject=x%26auth_app_id%3d2021&auth_app_id=2022"):
        assert interpret.scope(unreadable, account) == "shop-cn"


def test_merchant_that_is_no_application_is_held_under_no_number() -> None:
    account = alipay.openapi(auth_app_ids=("any",))
    body = alipay.urlencoded({"notify_id": "n", "out_trade_no": "A", "auth_app_id": "20/21"})
    with pytest.raises(Unreadable) as caught:
        interpret.read(body, account)
    assert (caught.value.reason, caught.value.order, caught.value.notification_id) == (Reason.MISSING_FIELD, "", "n")
