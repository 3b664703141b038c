"""Check that an authentic message is meant for this account. Pure; called after the signature check.

A valid signature of the old gateway shows only that Alipay signed for some merchant, because one key signs for all. So
the payee, the application or the client in the message must be the account's own. Ambiguous forms
(`schemas.form.is_ambiguous`) are always refused: each is an attack, or a payment that an operator must check.
"""

from collections.abc import Iterable
from datetime import timedelta

from ingest.errors import Ambiguous, NotOurs, Unauthentic
from schemas import form as forms
from schemas import times
from schemas.accounts import Account
from schemas.dispositions import Refusal
from schemas.form import Form

# Antom resends a message for up to a day. An older or future `request-time` means a replay or a wrong clock. Such a
# message is counted but accepted, because it is authentic and processing is idempotent.
REQUEST_TIME_SPAN = timedelta(hours=25)


def admit_form(form: Form, account: Account, *, is_confirmed: bool | None = None) -> None:
    """Return if the form is unambiguous and names this account.

    If Alipay has confirmed the form (`is_confirmed`; default: if the account uses notify_verify), it may omit the
    account's identities. An identity that it contains must always be the account's.

    Raises:
        Ambiguous: a value contains `&<known name>=`.
        NotOurs: an identity belongs to another merchant, or the form lacks one that the account has.
    """
    if forms.is_ambiguous(form):
        raise Ambiguous
    fields = form.fields
    may_lack = account.notify_verify if is_confirmed is None else is_confirmed
    _check("app_id", fields.get(b"app_id"), account.app_id, may_lack=may_lack)
    _check("seller_id", fields.get(b"seller_id"), account.seller_id, may_lack=may_lack)
    if account.auth_app_id is not None:
        _check("auth_app_id", fields.get(b"auth_app_id"), account.auth_app_id, may_lack=may_lack)
    else:
        # Without a service provider the application authorised itself, so Alipay repeats its own number here.
        _check("auth_app_id", fields.get(b"auth_app_id"), account.app_id, may_lack=True)


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


def _check(name: str, given: bytes | None, configured: str | None, *, may_lack: bool) -> None:
    """Check one identity. An empty value counts as absent."""
    if configured is None:
        return
    if given:
        if given != configured.encode():
            raise NotOurs(f"{name} is not the account's")
    elif not may_lack:
        raise NotOurs(f"{name} is missing, and Alipay has not confirmed the notification")
