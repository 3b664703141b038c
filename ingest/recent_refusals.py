"""The last requests that were refused, for the person who asks why an order is not paid.

In memory only and bounded: none of it is authentic, so none of it is written anywhere, and a flood of forgeries may
push out older ones but cannot grow. The order number is what the sender claims.
"""

import re
from collections import deque
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from schemas import antom
from schemas.accounts import Account, Family
from schemas.dispositions import Outcome, Refusal

KEPT_MAX = 1000
NUMBER_CHARACTERS_MAX = 64  # no order number of Alipay's is longer

_CLAIMED = re.compile(rb"(?:^|&)out_trade_no=([^&]{1,192})(?:&|$)")


class RefusedRequest(Struct, frozen=True, kw_only=True):
    """One request that was refused. `order` is the sender's claim, empty where none could be read."""

    account: str
    order: str
    outcome: Outcome
    reason: Refusal
    received_at_ms: int


class RecentRefusals:
    """Keeps the last refusals, newest last."""

    def __init__(self, *, kept_max: int = KEPT_MAX) -> None:
        self._requests: deque[RefusedRequest] = deque(maxlen=kept_max)

    def add(self, refused: RefusedRequest) -> None:
        self._requests.append(refused)

    def of_order(self, account: str, order: str) -> list[RefusedRequest]:
        """What claimed to be about this order, oldest first."""
        return [refused for refused in self._requests if refused.account == account and refused.order == order]

    def all(self) -> list[RefusedRequest]:
        return list(self._requests)


def claimed_order(account: Account, body: bytes) -> str:
    """The order number that an unauthentic body claims, as far as one can be read; never raises."""
    if account.family is Family.ANTOM:
        return antom.route(body)[:NUMBER_CHARACTERS_MAX]
    match = _CLAIMED.search(body)
    if match is None:
        return ""
    number = unquote_to_bytes(match[1].replace(b"+", b" "))
    return number.decode("utf-8", "backslashreplace")[:NUMBER_CHARACTERS_MAX]
