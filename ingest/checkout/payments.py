"""Sign the Request for one payment: choose Alipay's service by product and family, and fill in its parameters.

What the caller gives is checked before anything is signed, because Alipay shows faults of a Request to the buyer. The
parameters and product codes are those of Alipay's documents and of genuine Requests (deploy/docs/alipay.md).
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

from ingest.checkout import requests
from ingest.checkout.merchant_keys import MerchantKey
from ingest.checkout.requests import BadRequest
from schemas import money, times
from schemas.accounts import Account, Family, SignType
from schemas.money import Money
from schemas.payment_request import PRODUCTS, PaymentRequest, Product, SignedPayment

GATEWAYS = {Family.MAPI: "https://mapi.alipay.com/gateway.do", Family.OPENAPI: "https://openapi.alipay.com/gateway.do"}
AMOUNT_MINOR_MAX = {Family.MAPI: requests.AMOUNT_MINOR_MAX, Family.OPENAPI: 10_000_000_000}  # 100,000,000.00

_SERVICES = {
    Product.NATIVE: ("mobile.securitypay.pay", "NEW_WAP_OVERSEAS_SELLER"),
    Product.H5: ("create_forex_trade_wap", "NEW_WAP_OVERSEAS_SELLER"),
    Product.PAGE: ("create_forex_trade", "NEW_OVERSEAS_SELLER"),
}
_METHODS = {
    Product.PAGE: ("alipay.trade.page.pay", "FAST_INSTANT_TRADE_PAY"),
    Product.WAP: ("alipay.trade.wap.pay", "QUICK_WAP_WAY"),
    Product.APP: ("alipay.trade.app.pay", "QUICK_MSECURITY_PAY"),
}
_LENGTHS = {
    Family.MAPI: {"order": 64, "subject": 256, "body": 512},
    Family.OPENAPI: {"order": 64, "subject": 256, "body": 128},
}
_ORDER = re.compile(r"[!-~]+", re.ASCII)
_BAD_IN_ORDER = '"&='
_TIMEOUT = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}
_WEBSITE_TIMEOUT = (5, 12 * 60)  # minutes, of create_forex_trade and create_forex_trade_wap
_TIMEOUT_RANGE = (1, 15 * 24 * 60)
_RMB = "CNY"
_ON_BEHALF = "app_auth_token"  # of the merchant for whom a service provider acts; no part of biz_content


def sign(request: PaymentRequest, account: Account, key: MerchantKey, *, now: datetime) -> SignedPayment:
    """Return the Request for this payment, signed with the merchant's key. `now` is the time of an Open Platform one.

    Raises:
        BadRequest: with all faults of the payment, by the names of `PaymentRequest`.
    """
    product, amounts = check(request, account)
    if account.family is Family.MAPI:
        return _old_gateway(request, account, key, product, amounts)
    return _open_platform(request, account, key, product, amounts, now)


def check(request: PaymentRequest, account: Account) -> tuple[Product, tuple[Money, ...]]:
    """Return the product, and the amounts that Alipay may report, the price first.

    Raises:
        BadRequest: with all faults that do not depend on the key.
    """
    product = _product(request, account)
    amounts, faults = _prices(request, account)
    faults += _faults(request, account, product)
    if faults:
        raise BadRequest(faults)
    return product, amounts


def _product(request: PaymentRequest, account: Account) -> Product:
    """Return the product, if the account's family and algorithm have it."""
    products = PRODUCTS[account.family]
    if not products:
        raise BadRequest([f"family {account.family} has no signed Requests: call Antom's API from your server"])
    if request.product not in products:
        raise BadRequest([f"family {account.family} has no product {request.product!r}: use {', '.join(products)}"])
    product = Product(request.product)
    if product is Product.NATIVE and account.sign_type is SignType.MD5:
        raise BadRequest(["an app's Request is signed with RSA or RSA2, and this account's sign_type is MD5: use h5"])
    return product


def _prices(request: PaymentRequest, account: Account) -> tuple[tuple[Money, ...], list[str]]:
    """Return the amounts that Alipay may report, the price first, and the faults of the price."""
    currency = request.currency or account.currency
    given = [("rmb", request.rmb, _RMB), ("amount", request.amount, currency)]
    amounts, faults = [], []
    for name, text, its_currency in given:
        if not text:
            continue
        try:
            amount = money.parse_major(text, its_currency)
        except money.BadMoney as bad:
            faults.append(f"{name}: {bad}")
            continue
        most = AMOUNT_MINOR_MAX[account.family]
        if not 0 < amount.minor <= most:
            faults.append(f"{name} must be above 0 and at most {money.major(most, its_currency)}")
        amounts.append(amount)
    if not request.amount and not request.rmb:
        faults.append("amount is missing: give the price, such as 12.80, or rmb for a price in RMB")
    if request.rmb and account.family is Family.OPENAPI:
        faults.append("rmb belongs to family mapi: the Open Platform is priced in RMB if currency is CNY")
    elif request.rmb and currency == _RMB:
        faults.append("rmb needs currency, the currency of the settlement; for a settlement in RMB use amount")
    return tuple(amounts), faults


def _faults(request: PaymentRequest, account: Account, product: Product) -> list[str]:
    faults = []
    if not request.order:
        faults.append("order is missing")
    elif _ORDER.fullmatch(request.order) is None or any(mark in request.order for mark in _BAD_IN_ORDER):
        faults.append('order may have printable ASCII characters except blanks, ", & and =')
    if not request.subject.strip():
        faults.append("subject is missing")
    for name, most in _LENGTHS[account.family].items():
        if len(getattr(request, name)) > most:
            faults.append(f"{name} is longer than {most} characters")
    if not request.notify_url and not account.notify_url:
        faults.append(
            "notify_url is missing: without it Alipay sends no notification. Give it, or set it for the account"
        )
    if account.family is Family.MAPI:
        faults += [f"extra: {name} must be a text" for name, value in request.extra.items() if type(value) is not str]
    if request.timeout:
        faults += _timeout_faults(request.timeout, account, product)
    return faults + _merchant_faults(request, account)


def _merchant_faults(request: PaymentRequest, account: Account) -> list[str]:
    """Return the faults of the merchant that is paid.

    Alipay pays the merchant that gave the token, and without one the application's own. Its notification names that
    merchant, so one that the account does not serve would be refused although the buyer has paid.
    """
    merchant, token, own = request.auth_app_id, request.extra.get(_ON_BEHALF, ""), account.app_id
    if account.family is not Family.OPENAPI:
        return ["auth_app_id belongs to family openapi"] if merchant else []
    if type(token) is not str:
        return [f"{_ON_BEHALF} must be a text"]
    served = account.serves(merchant) if account.auth_app_ids else merchant == (account.auth_app_id or own)
    if merchant and not served:
        return [f"auth_app_id: account {account.name} does not serve the merchant {merchant}"]
    if token:
        return [f"auth_app_id is the application's own, and {_ON_BEHALF} another merchant's"] if merchant == own else []
    paid = merchant or account.auth_app_id or own or ""
    if paid != own:
        return [f"{_ON_BEHALF} is missing in extra: without it Alipay pays application {own}, not {paid}"]
    if account.auth_app_ids and not account.serves(paid):
        return [f"auth_app_id and {_ON_BEHALF} are missing: account {account.name} does not serve its own application"]
    return []


def _timeout_faults(timeout: str, account: Account, product: Product) -> list[str]:
    is_website = account.family is Family.MAPI and product is not Product.NATIVE
    least, most = _WEBSITE_TIMEOUT if is_website else _TIMEOUT_RANGE
    match = _TIMEOUT.fullmatch(timeout)
    if not is_website and timeout == "1c":
        return []
    if match is None or not least <= int(match[1]) * _MINUTES[match[2]] <= most:
        allowed = "5m to 12h" if is_website else "1m to 15d, or 1c for the end of the day"
        return [f"timeout must be a number with m, h or d, from {allowed}"]
    return []


def _old_gateway(
    request: PaymentRequest, account: Account, key: MerchantKey, product: Product, amounts: tuple[Money, ...]
) -> SignedPayment:
    partner = account.partner or account.seller_id or ""
    currency = request.currency or account.currency
    service, product_code = _SERVICES[product]
    is_native = product is Product.NATIVE
    # A domestic app payment has neither currency nor forex_biz.
    is_foreign = bool(request.rmb) or not is_native or currency != _RMB
    params = {
        "service": service,
        "partner": partner,
        "_input_charset": account.charset,
        "notify_url": request.notify_url or account.notify_url or "",
        "return_url": request.return_url,
        "out_trade_no": request.order,
        "subject": request.subject,
        "body": request.body,
        "total_fee": "" if request.rmb else request.amount,
        "rmb_fee": request.rmb,
        "currency": currency if is_foreign else "",
        "it_b_pay" if is_native else "timeout_rule": request.timeout,
    }
    defaults = {"product_code": product_code} if is_foreign else {}
    if is_native:
        defaults |= {"seller_id": account.seller_id or partner, "payment_type": "1"}
        defaults |= {"forex_biz": "FP"} if is_foreign else {}
    params = _with_extra(params, defaults, request.extra)
    if is_native:
        assert isinstance(key.key, rsa.RSAPrivateKey)
        text = requests.app_order_string(params, key=key.key, sign_type=account.sign_type.value)
        return SignedPayment(order_string=text, amounts=amounts)
    gateway = account.gateway_url or GATEWAYS[Family.MAPI]
    url = requests.redirect_url(
        gateway, params, key=key.key, sign_type=account.sign_type.value, charset=account.charset
    )
    return SignedPayment(url=url, amounts=amounts)


def _open_platform(
    request: PaymentRequest,
    account: Account,
    key: MerchantKey,
    product: Product,
    amounts: tuple[Money, ...],
    now: datetime,
) -> SignedPayment:
    assert isinstance(key.key, rsa.RSAPrivateKey)
    currency = request.currency or account.currency
    method, product_code = _METHODS[product]
    content = {
        "out_trade_no": request.order,
        "total_amount": request.amount,
        "subject": request.subject,
        "body": request.body,
        "timeout_express": request.timeout,
        "trans_currency": "" if currency == _RMB else currency,
        "quit_url": request.return_url if product is Product.WAP else "",
    }
    extra = {name: value for name, value in request.extra.items() if name != _ON_BEHALF}
    content = _with_extra(content, {"product_code": product_code}, extra)
    params = {
        "app_id": account.app_id or "",
        "method": method,
        "format": "JSON",
        "charset": account.charset,
        "sign_type": account.sign_type.value,
        "timestamp": now.astimezone(times.BEIJING).strftime("%Y-%m-%d %H:%M:%S"),
        "version": "1.0",
        "notify_url": request.notify_url or account.notify_url or "",
        "return_url": "" if product is Product.APP else request.return_url,
        "app_cert_sn": key.app_cert_sn,
        "alipay_root_cert_sn": key.root_cert_sn,
        _ON_BEHALF: str(request.extra.get(_ON_BEHALF, "")),
        "biz_content": msgspec.json.encode({name: value for name, value in content.items() if value}).decode(),
    }
    if product is Product.APP:
        return SignedPayment(order_string=requests.app_pay_order_string(params, key=key.key), amounts=amounts)
    gateway = account.gateway_url or GATEWAYS[Family.OPENAPI]
    return SignedPayment(url=requests.page_url(gateway, params, key=key.key), amounts=amounts)


def _with_extra(params: Mapping[str, str], defaults: Mapping[str, str], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with further ones, which may replace the defaults, but not what other fields set."""
    taken = [name for name in extra if name in params or name in ("sign", "sign_type")]
    if taken:
        raise BadRequest([f"extra may not contain {name}: it is set by the other fields" for name in taken])
    return {**defaults, **extra, **params}
