"""A shadow's folder with one account, and notifications for it."""

from deploy.shadow.shapes import MirroredRequest, OldReaction
from schemas.accounts import SignType
from tests.support import alipay

ACCOUNT = "shop-cn"
AT_MS = 1_764_500_000_000
FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
_PAID = {
    "notify_type": "trade_status_sync", "app_id": alipay.APP, "auth_app_id": alipay.APP, "seller_id": alipay.SELLER,
    "notify_time": "2025-11-30 18:53:20", "trade_status": "TRADE_SUCCESS", "total_amount": "12.80",
    "gmt_payment": "2025-11-30 18:53:20",
}  # fmt: skip


def body(order: str) -> bytes:
    """Return a genuine notification of a payment."""
    fields = _PAID | {"out_trade_no": order, "trade_no": f"T-{order}", "notify_id": f"N-{order}"}
    return alipay.form(fields, alipay.rsa_key("alipay"), SignType.RSA2.value)


def copy(order: str, request: str = "", *, at_ms: int = AT_MS) -> MirroredRequest:
    """Return a notification as the port takes it."""
    return MirroredRequest(
        account=ACCOUNT, target=f"/notify/{ACCOUNT}", method="POST", received_at_ms=at_ms, headers=FORM,
        body=body(order), request=request, is_mirrored=True,
    )  # fmt: skip


def line(order: str, request: str = "", *, at_ms: int = AT_MS, old: OldReaction | None = None) -> MirroredRequest:
    """Return a notification as an import reads it."""
    return MirroredRequest(
        account=ACCOUNT, target="/pay/ali", method="POST", received_at_ms=at_ms, headers=FORM,
        body=body(order), request=request, old=old,
    )  # fmt: skip
