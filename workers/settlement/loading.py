"""The rows that the store has to load, and to lock, before a batch can be decided. Pure.

`load_request` follows from the batch alone. Which movements are needed of orders that have them as rows (`movements`)
follows from it and from the orders: `movements_to_load`, once the store has loaded these.
"""

from collections.abc import Iterator, Mapping, Sequence

from schemas.notification import Kind, Notification
from schemas.orders import ClaimKey, Movement, Order
from workers.settlement import identity
from workers.settlement.movements import name_of
from workers.settlement.plan import AccountKey, LoadRequest, MovementName, ParsedRecord, ReportedMovement


def load_request(parsed_records: Sequence[ParsedRecord]) -> LoadRequest:
    """Return what the store has to load before these records can be decided."""
    ids: set[AccountKey] = set()
    orders: set[AccountKey] = set()
    trades: set[AccountKey] = set()
    refunds: set[AccountKey] = set()
    reported: set[ReportedMovement] = set()
    claims: set[tuple[str, str, ClaimKey]] = set()
    for parsed in parsed_records:
        notification = parsed.notification
        if notification is None:
            if parsed.failure is not None and parsed.failure.digest:
                ids.add((parsed.account, parsed.failure.notification_id))
            continue
        for id_ in identity.ids_of(parsed):
            ids.add((parsed.account, id_))
        if notification.order:
            orders.add((parsed.account, notification.order))
        if notification.joins_by_trade:
            is_named = notification.kind is Kind.PAYMENT and notification.order != notification.trade
            (orders if is_named else trades).add((parsed.account, notification.trade))
        if notification.amount is not None:
            key = (notification.trade, notification.amount.minor, notification.amount.currency)
            claims.add((parsed.account, notification.order, key))
        for refund in notification.refunds:
            if refund.trade:
                trades.add((parsed.account, refund.trade))
            else:
                refunds.add((parsed.account, refund.id))
        if notification.refunds or notification.capture is not None:
            reported.update(_reported(notification))
    return LoadRequest(
        positions=frozenset(parsed.position for parsed in parsed_records),
        retried=frozenset(parsed.position for parsed in parsed_records if parsed.held is not None),
        ids=frozenset(ids),
        orders=frozenset(orders),
        trades=frozenset(trades),
        refunds=frozenset(refunds),
        movements=frozenset(reported),
        claims=frozenset(claims),
    )


def movements_to_load(
    needs: LoadRequest,
    orders: Mapping[AccountKey, Order],
    by_trade: Mapping[AccountKey, str],
    by_refund: Mapping[AccountKey, str],
) -> dict[AccountKey, frozenset[MovementName] | None]:
    """Return which rows a batch needs of each of these orders: those with these names, or all, which is `None`.

    A trade that becomes known in this batch has no order in `by_trade`. It brings its order a new claim, so that all
    rows of that order are loaded.
    """
    apart = {key: order for key, order in orders.items() if order.movement_sums is not None}
    if not apart or needs.with_history:
        return dict.fromkeys(apart)
    names: dict[AccountKey, set[MovementName]] = {}
    for reported in needs.movements:
        account, refund = reported.account, reported.name[1]
        if reported.trade:
            number = by_trade.get((account, reported.trade))
        else:
            number = reported.order or by_refund.get((account, refund))
        if number is not None and (account, number) in apart:
            names.setdefault((account, number), set()).add(reported.name)
    wanted: dict[AccountKey, frozenset[MovementName] | None] = {key: frozenset(of) for key, of in names.items()}
    for account, number, claim_key in needs.claims:
        trade = claim_key[0]
        for key in ((account, number), (account, trade), (account, by_trade.get((account, trade), number))):
            if key in apart and all(claim.key != claim_key for claim in apart[key].claims):
                wanted[key] = None
    return wanted


def _reported(notification: Notification) -> Iterator[ReportedMovement]:
    """Yield the movements that a notification reports. Refunds are found by their own numbers, never by the order's."""
    capture = notification.capture
    if capture is not None:
        yield _found_by(notification, capture, order=notification.order)
    for refund in notification.refunds:
        yield _found_by(notification, refund, order="")


def _found_by(notification: Notification, movement: Movement, *, order: str) -> ReportedMovement:
    return ReportedMovement(account=notification.account, name=name_of(movement), trade=movement.trade, order=order)
