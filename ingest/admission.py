"""Check that an authentic message is meant for this account. Pure; called after the signature check.

A valid signature of the old gateway shows only that Alipay signed for some merchant, because one key signs for all. So
the payee, the application or the client in the message must be the account's own. Ambiguous forms
(`schemas.form.is_ambiguous`) are admitted by the same rules; interpretation holds them.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from ingest.errors import NotOurs, Unauthentic
from schemas import form as forms
from schemas import scopes, times
from schemas.accounts import Account, Family
from schemas.dispositions import Refusal
from schemas.form import Form

# Antom resends a message for up to a day. An older or future `request-time` means a replay or a wrong clock. Such a
# message is counted but accepted, because it is authentic and processing is idempotent.
REQUEST_TIME_SPAN = timedelta(hours=25)


def admit_form(form: Form, account: Account, *, is_confirmed: bool | None = None) -> None:
    """Return if the form is for this account.

    An identity in the form must always be the account's, or that of one of its merchants. If Alipay has confirmed the
    form (`is_confirmed`; default: if the account uses notify_verify), it may omit them all. Otherwise the Open Platform
    must name the application, the old gateway the merchant, and a form that moves money each payee of the account.

    A batch refund of the old gateway names no merchant by design. It is admitted, and interpretation decides whether
    it may have an effect (`Reason.NAMES_NOBODY`).

    Raises:
        NotOurs: an identity belongs to another merchant, or the form lacks one that it needs.
    """
    fields = form.fields
    # Without a service provider the application authorised itself, so Alipay repeats its own number in `auth_app_id`.
    _check_same(b"app_id", fields, account.app_id)
    if account.auth_app_ids:
        _check_merchant(fields, account)
    else:
        _check_same(b"auth_app_id", fields, account.auth_app_id or account.app_id)
    _check_same(b"seller_id", fields, account.seller_id)
    _check_same(b"partner_id", fields, account.partner or account.seller_id)
    if account.notify_verify if is_confirmed is None else is_confirmed:
        return
    if account.family is Family.OPENAPI:
        _check_present(b"app_id", fields, account.app_id)
    elif fields.get(b"notify_type") == forms.BATCH_REFUND:
        return
    elif not account.is_named_in(fields):
        raise NotOurs("seller_id, partner_id and pay_user_id do not name the account, and Alipay has not confirmed it")
    if _moves_money(fields):
        _check_present(b"seller_id", fields, account.seller_id)
        _check_present(b"auth_app_id", fields, account.auth_app_id)


def _check_merchant(fields: Mapping[bytes, bytes], account: Account) -> None:
    """Check that a form is of a merchant of this service provider. What moves no money may name only the provider."""
    merchant = scopes.merchant(fields)
    if account.serves(merchant.decode("ascii", "replace")):
        return
    if fields.get(b"auth_app_id") or _moves_money(fields):
        raise NotOurs("auth_app_id is none of the account's")


def _moves_money(fields: Mapping[bytes, bytes]) -> bool:
    """Return whether the form reports a payment or refund of one trade. One of a trade without a type counts too."""
    type_ = fields.get(b"notify_type") or fields.get(b"msg_method")
    if type_ == forms.TRADE_SYNC:
        return True
    if not type_:
        return any(fields.get(name) for name in (b"out_trade_no", b"trade_no"))
    return any(fields.get(name) for name in (b"refund_fee", b"refund_status"))


def admit_certificate(form: Form, numbers: Iterable[str]) -> None:
    """Return if the form names no certificate, or one that a key of the account came from.

    Raises:
        Unauthentic: it names another certificate. None is fetched, because a message must not choose its verifying key.
    """
    number = form.fields.get(b"alipay_cert_sn")
    if number and number.decode("ascii", "replace") not in numbers:
        raise Unauthentic(Refusal.UNKNOWN_KEY)


def admit_message(client_id: bytes, account: Account) -> None:
    """Return if an Antom message is for this account's client.

    Raises:
        NotOurs: it is for another client.
    """
    if account.client_id is None or client_id != account.client_id.encode():
        raise NotOurs("client-id is not the account's")


def is_stale(request_time: bytes, *, now_ms: int) -> bool:
    """Whether an Antom message's `request-time` is more than `REQUEST_TIME_SPAN` in the past or the future."""
    sent_ms = times.to_epoch_ms(times.parse_request_time(request_time.decode("ascii")))
    return abs(now_ms - sent_ms) > REQUEST_TIME_SPAN.total_seconds() * 1000


def _check_same(name: bytes, fields: Mapping[bytes, bytes], configured: str | None) -> None:
    """Check one identity, if both the form and the account have it. An empty value counts as absent."""
    given = fields.get(name)
    if given and configured is not None and given != configured.encode():
        raise NotOurs(f"{name.decode()} is not the account's")


def _check_present(name: bytes, fields: Mapping[bytes, bytes], configured: str | None) -> None:
    if configured is not None and not fields.get(name):
        raise NotOurs(f"{name.decode()} is missing, and Alipay has not confirmed the notification")
