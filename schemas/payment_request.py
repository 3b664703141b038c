"""A payment that a merchant asks Alipay for: the order, its price, and the addresses that Alipay calls.

`ingest.checkout.payments` turns it into a signed Request; the admin API reads it from JSON.
"""

from enum import StrEnum
from typing import Any

from msgspec import Struct

from schemas.accounts import Family
from schemas.money import Money


class Product(StrEnum):
    """The way in which the buyer gets to Alipay."""

    NATIVE = "native"  # old gateway, app: mobile.securitypay.pay
    H5 = "h5"  # old gateway, mobile browser: create_forex_trade_wap
    PAGE = "page"  # desktop browser: create_forex_trade, alipay.trade.page.pay
    APP = "app"  # Open Platform, app: alipay.trade.app.pay
    WAP = "wap"  # Open Platform, mobile browser: alipay.trade.wap.pay


PRODUCTS: dict[Family, tuple[Product, ...]] = {
    Family.MAPI: (Product.NATIVE, Product.H5, Product.PAGE),
    Family.OPENAPI: (Product.PAGE, Product.APP, Product.WAP),
    Family.ANTOM: (),
}


class PaymentRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One payment. The price is `amount` in `currency` (by default the account's), or `rmb` in RMB.

    With `rmb`, `currency` is the settlement currency, and `amount` may be given for the order's registration: the sum
    that Alipay is expected to report. `timeout` is such as `30m`. `extra` has further parameters of Alipay's documents:
    texts for the old gateway, members of `biz_content` for the Open Platform. `auth_app_id` is a service provider's
    merchant; Alipay takes it from the merchant's `app_auth_token`, which must be in `extra`.
    """

    product: str
    order: str
    subject: str
    amount: str = ""
    currency: str = ""
    rmb: str = ""
    notify_url: str = ""
    return_url: str = ""
    body: str = ""
    timeout: str = ""
    extra: dict[str, Any] = {}
    auth_app_id: str = ""


class SignedPayment(Struct, frozen=True, kw_only=True):
    """A signed Request: `url` for the buyer's browser, or `order_string` for Alipay's SDK in the app.

    `amounts` are those that Alipay may report, one per currency.
    """

    url: str | None = None
    order_string: str | None = None
    amounts: tuple[Money, ...] = ()
