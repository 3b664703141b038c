"""One held notification in full: its bytes and fields, its signature check, and what its order says about it."""

import base64
from collections.abc import Mapping
from datetime import datetime

from schemas import personal, scopes, times
from schemas.accounts import Account
from workers.admin import contradictions, inspection, shapes
from workers.admin.contradictions import Contradiction
from workers.admin.held_amounts import HeldAmounts
from workers.admin.inspection import Signature, Verify
from workers.errors import ReadTooSlow
from workers.queries import HeldPage, OrderPage, OrdersPort


class HeldInspection(shapes.HeldAnswer, frozen=True, kw_only=True):
    """One held notification with its bytes and fields, both with personal data hidden, and its signature check.

    `deliveries` is the number of times that it came, as far as its order shows it; null if the order cannot be read in
    time. `contradiction` has the two values that disagree; null if it is held for another reason.
    """

    deliveries: int | None
    contradiction: Contradiction | None
    fields: dict[str, str]
    headers: dict[str, str]
    body_base64: str
    masked: bool
    erased_at: datetime | None
    signature: Signature


class HeldDetails:
    """Reads held notifications with the present accounts and keys, beside their orders."""

    def __init__(
        self, *, accounts: Mapping[str, Account], orders: OrdersPort, amounts: HeldAmounts, verify: Verify
    ) -> None:
        self._accounts = accounts
        self._orders = orders
        self._amounts = amounts
        self._verify = verify

    async def of(self, page: HeldPage) -> tuple[HeldInspection, OrderPage | None]:
        """Return it in full, and its order; `None` if it names none, or reading that takes too long.

        Raises:
            InfrastructureDown: the store does not answer.
        """
        row, order = page.row, None
        deliveries: int | None = 1
        if row.order:
            try:
                order = await self._orders.order_page(row.account, row.order)
            except ReadTooSlow:
                deliveries = None
            else:
                deliveries = _deliveries(page, order)
        return self._inspection(page, order, deliveries), order

    def _inspection(self, page: HeldPage, order: OrderPage | None, deliveries: int | None) -> HeldInspection:
        record = page.row.record
        summary = shapes.held(page, self._amounts.of(page))
        return HeldInspection(
            **{name: getattr(summary, name) for name in shapes.HeldAnswer.__struct_fields__},
            deliveries=deliveries,
            contradiction=contradictions.of(
                page.row.reason,
                self._amounts.notification(page),
                order,
                self._accounts.get(scopes.account_of(page.row.account)),
            ),
            fields=inspection.fields(record, self._accounts),
            headers=inspection.headers(record),
            body_base64=base64.b64encode(personal.hidden(record.value)).decode("ascii"),
            masked=True,
            erased_at=None if page.erased_at_ms is None else times.from_epoch_ms(page.erased_at_ms),
            signature=inspection.signature(record, self._accounts, self._verify, page.erased_at_ms),
        )


def _deliveries(page: HeldPage, order: OrderPage | None) -> int:
    id_ = page.row.notification_id
    return sum(each.notification_id == id_ for each in order.deliveries) if order is not None and id_ else 1
