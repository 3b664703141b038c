"""Interpret a record's body, with the reader of the account's family."""

from msgspec import structs

from schemas import form, interpret_answer, interpret_antom, interpret_form, scopes
from schemas.accounts import Account, Family
from schemas.dispositions import Disposition, Reason
from schemas.notification import Notification, Unreadable

_ANTOM = Family.ANTOM  # read once, because each record asks for it


def read(body: bytes, account: Account, *, is_confirmed: bool = False, is_answer: bool = False) -> Notification:
    """Return the meaning of a body for this account. `is_confirmed`: notify_verify confirmed that it is for it.

    `is_answer`: it is no notification, but the answer to a question of ours.

    Raises:
        Unreadable: with the disposition to give the message: `dead` if it is no notification, else `quarantined`.
    """
    if is_answer:
        return interpret_answer.read(body, account)
    if account.family is _ANTOM:
        return interpret_antom.read(body, account)
    try:
        fields = form.read(body)
    except form.BadForm as error:
        raise Unreadable(Reason.MALFORMED, str(error), disposition=Disposition.DEAD) from None
    notification = interpret_form.read(fields, account, is_confirmed=is_confirmed)
    if account.auth_app_ids:
        return structs.replace(notification, account=scopes.of_form(account, fields.fields))
    return notification


def scope(body: bytes, account: Account) -> str:
    """Return the scope of the order that a body is about (`schemas.scopes`); the whole account if it names none.

    Nothing in an ambiguous form can be believed, so all spellings of its signature are in the account's own scope.
    """
    if not account.auth_app_ids:
        return account.name
    try:
        read_form = form.read(body)
    except form.BadForm:
        return account.name
    return account.name if form.is_ambiguous(read_form) else scopes.of_form(account, read_form.fields)
