"""Refunds and captures of orders that have many: rows of their own, of which a batch loads only those it needs. Pure.

An order keeps its movements beside its claims, in its own row, as nearly all orders have few. That row is read and
written whole, so each further refund would cost more than the one before. Above `INLINE_MAX` the movements are rows of
their own, and the order keeps their sums (`sums`). Then a movement needs only the rows of its own number. All rows are
needed only if the order gets one more claim, which has no sum yet, or if an operator decides.

An order that has its movements as rows keeps them so. One that a release before has written with many in its own row is
changed over when it is written next.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

from msgspec import structs

from schemas.orders import Capture, Claim, Movement, MovementSums, Order, Refund
from workers.settlement import order_view, sums
from workers.settlement.plan import (
    AccountKey,
    MovementKind,
    MovementName,
    MovementRow,
    StoreSnapshot,
)

INLINE_MAX = 32  # refunds and captures in the order's own row: some 2 KiB


def name_of(movement: Movement) -> MovementName:
    """Return the kind and the number of a movement. Movements with the same name are reports of one movement."""
    return (MovementKind.REFUND if isinstance(movement, Refund) else MovementKind.CAPTURE, movement.id)


def recounted(order: Order, known: Iterable[Movement]) -> Order:
    """Return the order with its sums counted anew from these movements, which are all that it has."""
    refunds: list[Movement] = []
    captures: list[Movement] = []
    for movement in known:
        (refunds if isinstance(movement, Refund) else captures).append(movement)
    counted = MovementSums(
        refunds=sums.of(refunds, order.claims, order.refund_limit_minor), captures=sums.of(captures, order.claims)
    )
    return structs.replace(order, movement_sums=counted)


def with_only(order: Order, known: Sequence[Movement]) -> Order:
    """Return the order with these movements and no others."""
    if order.movement_sums is not None:
        return recounted(order, known)
    refunds = tuple(sorted(each for each in known if isinstance(each, Refund)))
    return structs.replace(
        order, refunds=refunds, captures=tuple(sorted(each for each in known if isinstance(each, Capture)))
    )


def row(order: Order, movement: Movement) -> MovementRow:
    """Return the row of one of the order's movements."""
    return MovementRow(account=order.account, order=order.number, movement=movement)


class BatchMovements:
    """The movements that a batch knows of orders that have them as rows, and `added`, the rows to write."""

    def __init__(self, snapshot: StoreSnapshot) -> None:
        self.added: list[MovementRow] = []
        self._names = {key: known.names for key, known in snapshot.movements.items()}
        self._known: dict[AccountKey, dict[MovementName, list[Movement]]] = {}
        for key, known in snapshot.movements.items():
            self._remember(key, known.found)

    def with_movements(self, order: Order, movements: Iterable[Movement]) -> tuple[Order, list[MovementRow]]:
        """Return the order with these movements added, and the rows to give to `written` if it is written.

        If it has them already it is the same object.
        """
        rows: list[MovementRow] = []
        for movement in movements:
            order = self._with(order, movement, rows)
        return order, rows

    def with_claim(self, order: Order, joined: Claim) -> Order:
        """Return the order with this claim added or replaced. A new claim gets its sums."""
        after = order_view.with_claim(order, joined)
        if order.movement_sums is None or len(after.claims) == len(order.claims):
            return after
        return self.recounted(after)

    def recounted(self, order: Order, rows: Iterable[MovementRow] = ()) -> Order:
        """Return the order with its sums counted anew, after a change of its claims or of the accepted sum; with rows
        that are still to be written."""
        if order.movement_sums is None:
            return order
        key = (order.account, order.number)
        _check(self._names.get(key, frozenset()) is None)
        return recounted(order, self.all_of(order, rows))

    def all_of(self, order: Order, rows: Iterable[MovementRow] = ()) -> list[Movement]:
        """Return all movements of the order, wherever they are stored, with rows that are still to be written."""
        if order.movement_sums is None:
            return [*order.refunds, *order.captures]
        same = self._known[order.account, order.number].values()
        return [*chain.from_iterable(same), *(each.movement for each in rows)]

    def written(self, order: Order, rows: Iterable[MovementRow]) -> Order:
        """Return the order as it is to be written, and add these rows. If it has too many movements to keep, they
        become rows too."""
        key = (order.account, order.number)
        for each in rows:
            self._remember(key, [each.movement])
            self.added.append(each)
        kept: tuple[Movement, ...] = (*order.refunds, *order.captures)
        if order.movement_sums is not None or len(kept) <= INLINE_MAX:
            return order
        self._names[key] = None
        self._remember(key, kept)
        self.added += [row(order, movement) for movement in kept]
        return structs.replace(recounted(order, kept), refunds=(), captures=())

    def _with(self, order: Order, movement: Movement, rows: list[MovementRow]) -> Order:
        counted = order.movement_sums
        if counted is None:
            return _with_inline(order, movement)
        same = self._same(order, movement)
        same += [each.movement for each in rows if name_of(each.movement) == name_of(movement)]
        if movement in same:
            return order
        if isinstance(movement, Refund):
            refunds = sums.added(counted.refunds, movement, same, order.claims, order.refund_limit_minor)
            counted = structs.replace(counted, refunds=refunds)
        else:
            counted = structs.replace(counted, captures=sums.added(counted.captures, movement, same, order.claims))
        rows.append(row(order, movement))
        return structs.replace(order, movement_sums=counted)

    def _same(self, order: Order, movement: Movement) -> list[Movement]:
        key, name = (order.account, order.number), name_of(movement)
        names = self._names.get(key, frozenset())
        _check(names is None or name in names)
        return [*self._known.get(key, {}).get(name, ())]

    def _remember(self, key: AccountKey, movements: Iterable[Movement]) -> None:
        by_name = self._known.setdefault(key, {})
        for movement in movements:
            by_name.setdefault(name_of(movement), []).append(movement)


def _with_inline(order: Order, movement: Movement) -> Order:
    if isinstance(movement, Refund):
        if movement in order.refunds:
            return order
        return structs.replace(order, refunds=tuple(sorted((*order.refunds, movement))))
    if movement in order.captures:
        return order
    return structs.replace(order, captures=tuple(sorted((*order.captures, movement))))


def _check(is_loaded: bool) -> None:
    """Refuse to count without the rows that a count needs: the sum would be wrong, and stay so."""
    if not is_loaded:
        raise AssertionError("the movements of an order that has them as rows were not loaded")
