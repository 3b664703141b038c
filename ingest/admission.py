"""Whether an authentic message is meant for this account. Pure; called after the signature, never instead of it.

A valid signature of the old gateway says only "Alipay signed this for some merchant", since one key signs for all of
them. So the payee, the application or the client must be the account's own. And a form whose text could equally have
been other parameters is refused whatever it says (`schemas.form.is_ambiguous`): each such case is an attack, or a
genuine payment that a person has to look at.
"""

from collections.abc import Iterable
from datetime import timedelta

from ingest.errors import Ambiguous, NotOurs, Unauthentic
from schemas import form as forms
from schemas import times
from schemas.accounts import Account
from schemas.dispositions import Refusal
from schemas.form import Form

# Antom sends a message again for up to a day. Older than that, or as far ahead, it is a replay or a wrong clock: it is
# still authentic and idempotent, so it is counted and taken.
REQUEST_TIME_SPAN = timedelta(hours=25)


def admit_form(form: Form, account: Account, *, vouched: bool | None = None) -> None:
    """Return where the form is unambiguous and names this account.

    Where `vouched` (by default: where the account has every notification confirmed by Alipay before it is accepted),
    an identity that the form leaves out is not missed; one that it names must be right in any case.

    Raises:
        Ambiguous: some value continues with `&<known name>=`.
        NotOurs: an identity is another's, or the account has one that the form lacks.
    """
    if forms.is_ambiguous(form):
        raise Ambiguous
    fields = form.fields
    lacking_is_ours = account.notify_verify if vouched is None else vouched
    _check("app_id", fields.get(b"app_id"), account.app_id, lacking_is_ours=lacking_is_ours)
    _check("seller_id", fields.get(b"seller_id"), account.seller_id, lacking_is_ours=lacking_is_ours)
    if account.auth_app_id is not None:
        _check("auth_app_id", fields.get(b"auth_app_id"), account.auth_app_id, lacking_is_ours=lacking_is_ours)
    else:
        # Without a service provider the application authorised itself, and Alipay repeats its own number here.
        _check("auth_app_id", fields.get(b"auth_app_id"), account.app_id, lacking_is_ours=True)


def admit_certificate(form: Form, numbers: Iterable[str]) -> None:
    """Return where the form names no certificate of Alipay's, or one of those the account's keys came from.

    Raises:
        Unauthentic: it names another. Nothing is fetched: a message may not choose whom it is verified by.
    """
    number = form.fields.get(b"alipay_cert_sn")
    if number and number.decode("ascii", "replace") not in numbers:
        raise Unauthentic(Refusal.UNKNOWN_KEY)


def admit_message(client_id: bytes, account: Account) -> None:
    """Return where an Antom message is for this account's client.

    Raises:
        NotOurs: it is for another.
    """
    if account.client_id is None or client_id != account.client_id.encode():
        raise NotOurs("client-id is not the account's")


def is_stale(request_time: bytes, *, now_ms: int) -> bool:
    """Whether an Antom message's `request-time` lies outside the span of Antom's own re-sending, either way."""
    sent_ms = times.to_epoch_ms(times.parse_request_time(request_time.decode("ascii")))
    return abs(now_ms - sent_ms) > REQUEST_TIME_SPAN.total_seconds() * 1000


def _check(name: str, given: bytes | None, configured: str | None, *, lacking_is_ours: bool) -> None:
    """One identity; an empty value counts as absent, as everywhere in a form."""
    if configured is None:
        return
    if given:
        if given != configured.encode():
            raise NotOurs(f"{name} is not the account's")
    elif not lacking_is_ours:
        raise NotOurs(f"{name} is missing, and nobody vouches for the message")
