"""Composing a receiver. A whole one: tests/unit/ingest/http and tests/acceptance."""

from ingest.app import unnamed_batches
from schemas.accounts import SignType
from tests.support import alipay


def test_accounts_whose_batch_refunds_name_no_merchant_are_reported_at_start() -> None:
    bound = [alipay.mapi(SignType.MD5), alipay.mapi(notify_verify=True), alipay.openapi(), alipay.antom()]
    assert unnamed_batches([alipay.mapi(), *bound]) == ["shop-sg"]
    assert unnamed_batches(bound) == []
