"""The most recently refused requests, to find out why an order is not paid.

They are kept in bounded memory only, because they are not authentic: a flood of forgeries can displace older entries,
but cannot use more memory. The order number is claimed by the sender. Requests beyond the receiver's quota are left
out, because their bodies were not read.
"""

import re
from collections import deque
from itertools import islice
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from schemas import antom
from schemas.accounts import Account, Family
from schemas.dispositions import Outcome, Refusal

KEPT_MAX = 1000
NUMBER_CHARACTERS_MAX = 64  # Alipay's limit for order numbers

_CLAIMED = re.compile(rb"(?:^|&)out_trade_no=([^&]{1,192})(?:&|$)")
_CLAIMED_ID = re.compile(rb"(?:^|&)notify_id=([^&]{1,384})(?:&|$)")


class RefusedRequest(Struct, frozen=True, kw_only=True):
    """One refused request. `scope`, `order` and `notification_id` are claimed by the sender.

    `order` and `notification_id` are empty if they could not be read. Antom's messages have no id but their number.
    """

    account: str
    scope: str = ""
    order: str
    notification_id: str = ""
    outcome: Outcome
    reason: Refusal
    received_at_ms: int


class RecentRefusals:
    """Keeps the last `kept_max` refused requests, newest last; `added` counts all that there ever were."""

    def __init__(self, *, kept_max: int = KEPT_MAX) -> None:
        self._requests: deque[RefusedRequest] = deque(maxlen=kept_max)
        self.added = 0

    def add(self, refused: RefusedRequest) -> None:
        self.added += 1
        self._requests.append(refused)

    def after(self, number: int) -> list[RefusedRequest]:
        """Return those that are kept of the requests after the first `number`, oldest first."""
        return self.newest(max(0, self.added - number))

    def newest(self, limit: int) -> list[RefusedRequest]:
        """Return the newest ones, oldest first."""
        return list(islice(reversed(self._requests), limit))[::-1]

    def of_order(self, scope: str, order: str) -> list[RefusedRequest]:
        """Return the refused requests that claimed to be about this order, oldest first; by account, all merchants'."""
        return [
            refused
            for refused in self._requests
            if scope in (refused.account, refused.scope) and refused.order == order
        ]

    def all(self) -> list[RefusedRequest]:
        return list(self._requests)


def claimed_id(account: Account, body: bytes, order: str) -> bytes:
    """Return the id of the notification in an unauthentic body; of Antom its claimed order, as it has no id.

    It is empty if there is none. Never raises.
    """
    if account.family is Family.ANTOM:
        return order.encode("utf-8", "replace")
    match = _CLAIMED_ID.search(body)
    return b"" if match is None else unquote_to_bytes(match[1].replace(b"+", b" "))


def claimed_order(account: Account, body: bytes) -> str:
    """Return the order number in an unauthentic body, or an empty string. Never raises."""
    if account.family is Family.ANTOM:
        return antom.route(body)[:NUMBER_CHARACTERS_MAX]
    match = _CLAIMED.search(body)
    if match is None:
        return ""
    number = unquote_to_bytes(match[1].replace(b"+", b" "))
    return number.decode("utf-8", "backslashreplace")[:NUMBER_CHARACTERS_MAX]
