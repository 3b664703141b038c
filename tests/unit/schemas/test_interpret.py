"""The account's family decides how a body is interpreted."""

import pytest

from schemas import interpret
from schemas.dispositions import Disposition, Reason
from schemas.notification import Kind, Unreadable
from tests.support import facts

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
