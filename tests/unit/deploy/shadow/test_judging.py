"""The old handler's answers, as Alipay takes them."""

import pytest

from deploy.shadow.judging import old_answer
from deploy.shadow.shapes import HandlerAnswer, OldAction, OldReaction
from tests.support import alipay


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, "success", HandlerAnswer.ACKNOWLEDGED),
        (200, "success\n", HandlerAnswer.ACKNOWLEDGED),
        (None, "success", HandlerAnswer.ACKNOWLEDGED),
        (200, None, HandlerAnswer.ACKNOWLEDGED),
        (200, "Success", HandlerAnswer.NOT_ACKNOWLEDGED),
        (200, "", HandlerAnswer.NOT_ACKNOWLEDGED),
        (201, "success", HandlerAnswer.NOT_ACKNOWLEDGED),
        (302, None, HandlerAnswer.NOT_ACKNOWLEDGED),
        (500, "success", HandlerAnswer.NOT_ACKNOWLEDGED),
        (200, "FAIL", HandlerAnswer.REFUSED),
        (403, None, HandlerAnswer.REFUSED),
        (0, "", HandlerAnswer.NOT_ACKNOWLEDGED),
        (444, None, HandlerAnswer.NOT_ACKNOWLEDGED),
        (499, None, HandlerAnswer.NOT_ACKNOWLEDGED),
        (499, "fail", HandlerAnswer.NOT_ACKNOWLEDGED),
        (None, None, None),
    ],
)
def test_only_200_with_success_is_an_acknowledgement(
    status: int | None, body: str | None, answer: HandlerAnswer | None
) -> None:
    assert old_answer(OldReaction(status=status, body=body, action=OldAction.APPLIED), alipay.openapi()) is answer


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('{"result": {"resultCode": "SUCCESS", "resultStatus": "S"}}', HandlerAnswer.ACKNOWLEDGED),
        ('{"result": {"resultStatus": "F"}}', HandlerAnswer.NOT_ACKNOWLEDGED),
        ("success", HandlerAnswer.NOT_ACKNOWLEDGED),
        ("[" * 100_000, HandlerAnswer.NOT_ACKNOWLEDGED),
        ("[]", HandlerAnswer.NOT_ACKNOWLEDGED),
    ],
)
def test_antom_needs_its_json(body: str, answer: HandlerAnswer) -> None:
    assert old_answer(OldReaction(status=200, body=body), alipay.antom()) is answer
