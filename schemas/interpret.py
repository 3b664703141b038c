"""Interpret a record's body, with the reader of the account's family."""

from schemas import form, interpret_antom, interpret_form
from schemas.accounts import Account, Family
from schemas.dispositions import Disposition, Reason
from schemas.notification import Notification, Unreadable


def read(body: bytes, account: Account, *, is_confirmed: bool = False) -> Notification:
    """Return the meaning of a body for this account. `is_confirmed`: notify_verify confirmed that it is for it.

    Raises:
        Unreadable: with the disposition to give the message: `dead` if it is no notification, else `quarantined`.
    """
    if account.family is Family.ANTOM:
        return interpret_antom.read(body, account)
    try:
        fields = form.read(body)
    except form.BadForm as error:
        raise Unreadable(Reason.MALFORMED, str(error), disposition=Disposition.DEAD) from None
    return interpret_form.read(fields, account, is_confirmed=is_confirmed)
