"""The numbers that a form with two readings may name: claims only, because any of them may be a part of a free text.

They are read from the signed text, so all spellings of one signature name the same. They serve to find the form, and to
mention it on the pages of the orders that it may be about. They decide nothing.
"""

import re
from collections.abc import Iterable, Iterator

from schemas import form as forms
from schemas import noted, scopes
from schemas.accounts import CHARSETS, Account
from schemas.form import Form
from schemas.notification import NamedNumber, NumberKind

READINGS_MAX = 64  # of one parameter; a subject and a body of Alipay's lengths have room for about 40
NUMBER_CHARACTERS_MAX = 256  # also of other numbers (`schemas.noted`): a row of PostgreSQL's index has 2.7 kB

_IDENTIFIERS = (b"notify_id", *(name.encode() for name in noted.NUMBERS_OF_FORMS if name != "auth_app_id"))


def numbers(form: Form, account: Account) -> tuple[NamedNumber, ...]:
    """Return the numbers of every reading: first those of orders, then all others."""
    orders = claimed_orders(text for value in readings(form, b"out_trade_no") for text in _texts(value, form, account))
    others = (value.decode("ascii") for name in _IDENTIFIERS for value in readings(form, name) if value.isascii())
    claimed = ((NumberKind.CLAIMED_NUMBER, text) for text in (*others, *_batch_trades(form)))
    return (*orders, *noted.named(*claimed))


def claimed_orders(found: Iterable[str]) -> tuple[NamedNumber, ...]:
    """Return these numbers of orders as claims, each once, without those that cannot be filed."""
    kept = (text for text in found if 0 < len(text) <= NUMBER_CHARACTERS_MAX and text.isprintable())
    return tuple(NamedNumber(NumberKind.CLAIMED_ORDER, text) for text in dict.fromkeys(kept))


def scopes_of(form: Form, account: Account) -> tuple[str, ...]:
    """Return the scopes of the orders that the form may name: at accounts of service providers, each merchant's."""
    merchants = (*readings(form, b"auth_app_id"), *readings(form, b"app_id"))
    return tuple(dict.fromkeys(scopes.of(account, merchant.decode("ascii", "replace")) for merchant in merchants))


def readings(form: Form, name: bytes) -> tuple[bytes, ...]:
    """Return each value that a reading of the signed text gives this parameter, and the value in this spelling.

    A value ends where another parameter may begin.
    """
    text = forms.joined(form, frozenset(form.fields))
    ends = re.finditer(rb"(?:^|&)" + re.escape(name) + rb"=(.*?)(?=&[^&=]+=|\Z)", text, re.DOTALL)
    found = (form.fields.get(name, b""), *(match[1] for match in ends))
    return tuple(value for value in dict.fromkeys(found) if value)[:READINGS_MAX]


def _texts(value: bytes, form: Form, account: Account) -> Iterator[str]:
    """Yield the value as text, in each charset that the form may have."""
    declared = (charset.decode("ascii", "replace").lower() for charset in readings(form, b"charset"))
    for charset in dict.fromkeys((*declared, account.charset)):
        if charset in CHARSETS:
            try:
                yield value.decode(charset)
            except UnicodeDecodeError:
                continue


def _batch_trades(form: Form) -> Iterator[str]:
    """Yield the trades of a batch refund."""
    for details in readings(form, b"result_details"):
        yield from noted.refunded_trades(details.decode("ascii", "replace"))
