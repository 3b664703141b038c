"""From a sealed record to what it means: the one place that chooses the reader by the account's family."""

from schemas import form, interpret_antom, interpret_form
from schemas.accounts import Account, Family
from schemas.dispositions import Disposition, Reason
from schemas.notification import Notification, Unreadable


def read(body: bytes, account: Account) -> Notification:
    """What the body says to this account.

    Raises:
        Unreadable: with the disposition that the message is to have: `dead` where it is no notification at all,
            else `quarantined`.
    """
    if account.family is Family.ANTOM:
        return interpret_antom.read(body, account)
    try:
        fields = form.read(body)
    except form.BadForm as error:
        raise Unreadable(Reason.MALFORMED, str(error), disposition=Disposition.DEAD) from None
    return interpret_form.read(fields, account)
