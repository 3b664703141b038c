"""The trades that this Alipay knows, each by its last notification, also one that never arrived.

Only what this process sends is known: payments at the cashier, and scenarios played from the sandbox's page.
"""

from __future__ import annotations

from collections import OrderedDict

from deploy.sandbox.notifications import MessageKind, UnsignedNotification

_REMEMBERED = 10_000
_OF_A_STATE = frozenset({
    MessageKind.WAITING, MessageKind.PAID, MessageKind.FINISHED, MessageKind.FROZEN, MessageKind.CLOSED,
    MessageKind.REVERSED, MessageKind.AUTHORIZED,
})  # fmt: skip


class Trades:
    """The last notification of each order, by account, a service provider's merchant if it is one, and number."""

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[str, str, str], UnsignedNotification] = OrderedDict()

    def note(self, notification: UnsignedNotification) -> None:
        """Remember a notification before it is delivered."""
        identity = notification.account.identity
        kind, key = notification.facts.kind, (identity.name, identity.auth_app_id, notification.order)
        is_refund = kind in (MessageKind.REFUND, MessageKind.REFUND_ACTION) and notification.facts.names_order
        if kind not in _OF_A_STATE and not is_refund:
            return
        if kind is MessageKind.WAITING and key in self._last:
            return
        self._last[key] = notification
        while len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)

    def of(self, account: str, order: str, *, auth_app_id: str = "") -> UnsignedNotification | None:
        """Return the last notification of an order; `None` if Alipay has no trade of it."""
        return self._last.get((account, auth_app_id, order))
