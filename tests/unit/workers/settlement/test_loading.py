"""The rows that a batch needs: few movements of an order that has many, and all of them only if its claims change."""

from msgspec import structs

from schemas.notification import Kind
from schemas.orders import Claim, MovementSums, News, Order, Sums
from tests.support import facts
from tests.support.facts import Fact, antom_refund, batch, capture, form, payment
from workers.settlement import loading
from workers.settlement.plan import AccountKey, LoadRequest, MovementKind, MovementName, Position

MANY = MovementSums(refunds=Sums(count=99))


def needs(family: str, *delivered: Fact) -> LoadRequest:
    account = facts.account(family)
    return loading.load_request(
        [facts.reading(facts.notification(fact, account), account, Position(0, n)) for n, fact in enumerate(delivered)]
    )


def wanted(
    family: str,
    *delivered: Fact,
    order: Order | None = None,
    by_trade: dict[str, str] | None = None,
    by_refund: dict[str, str] | None = None,
    with_history: bool = False,
) -> dict[str, frozenset[MovementName] | None]:
    """Return the rows to load by order number, of one order with many movements."""
    account = facts.account(family).name
    claim = Claim(trade="T1", amount_minor=10000, currency="USD" if family == "mapi" else "HKD")
    known = order or Order(account=account, number="A", claims=(claim,), movement_sums=MANY)
    found = loading.movements_to_load(
        structs.replace(needs(family, *delivered), with_history=with_history),
        {(account, known.number): known},
        _of(account, {"T1": "A"} if by_trade is None else by_trade),
        _of(account, by_refund or {}),
    )
    return {number: names for (_, number), names in found.items()}


def _of(account: str, numbers: dict[str, str]) -> dict[AccountKey, str]:
    return {(account, number): order for number, order in numbers.items()}


def only(kind: MovementKind, number: str) -> dict[str, frozenset[MovementName] | None]:
    return {"A": frozenset({(kind, number)})}


def test_load_request_names_orders_trades_refunds_and_ids() -> None:
    account = facts.account("mapi")
    delivered = (form("p", "TRADE_SUCCESS"), batch("b", "T1^1.00^SUCCESS#T2^2.00^SUCCESS"))
    asked = loading.load_request(
        [facts.reading(facts.notification(fact, account), account, Position(0, n)) for n, fact in enumerate(delivered)]
    )
    assert asked.ids == {(account.name, "p"), (account.name, "b")}
    assert asked.orders == {(account.name, "A")}
    assert asked.trades == {(account.name, "T1"), (account.name, "T2")}
    assert asked.refunds == frozenset()
    antoms = facts.account("antom")
    one = facts.reading(facts.notification(antom_refund("R1", "1"), antoms), antoms, Position(0, 0))
    assert loading.load_request([one]).refunds == {(antoms.name, "R1")}
    assert one.notification is not None
    assert (one.notification.kind, one.notification.news) == (Kind.REFUND, News.PARTLY_REFUNDED)


def test_refund_needs_the_rows_of_its_number_and_a_known_payment_none() -> None:
    refund = batch("b", "T1^1.00^SUCCESS", "N1")
    assert wanted("mapi", form("p", "TRADE_SUCCESS")) == {}
    assert wanted("mapi", refund) == only(MovementKind.REFUND, "N1/T1")
    assert wanted("mapi", refund, form("p", "TRADE_SUCCESS")) == only(MovementKind.REFUND, "N1/T1")
    assert wanted("mapi", refund, by_trade={}) == {}, "its payment is not known: it waits"


def test_order_with_few_movements_needs_no_rows() -> None:
    few = Order(account=facts.account("mapi").name, number="A", claims=())
    assert wanted("mapi", batch("b", "T1^1.00^SUCCESS"), order=few, with_history=True) == {}


def test_refund_is_found_by_its_registered_number_and_a_capture_by_its_order() -> None:
    assert wanted("antom", antom_refund("R1", "1"), by_refund={"R1": "A"}) == only(MovementKind.REFUND, "R1")
    assert wanted("antom", antom_refund("R1", "1")) == {}
    taken = capture("C1", "1", paymentRequestId="A", paymentId="")
    assert wanted("manual", taken) == only(MovementKind.CAPTURE, "C1")
    assert wanted("manual", capture("C1", "1")) == only(MovementKind.CAPTURE, "C1")


def test_new_claim_needs_all_rows_beside_whatever_refunds() -> None:
    refund = batch("b", "T1^1.00^SUCCESS", "N1")
    assert wanted("mapi", refund, form("p", "TRADE_SUCCESS", "50.00")) == {"A": None}
    assert wanted("mapi", form("p", "TRADE_SUCCESS", trade="T2")) == {"A": None}
    assert wanted("antom", payment("p", order="B")) == {}, "the payment that the order has already"
    assert wanted("antom", payment("p", order="B", value="1")) == {"A": None}, "found by its trade"


def test_order_that_has_its_payment_by_its_own_number_is_found_too() -> None:
    by_itself = Order(account=facts.account("antom").name, number="T1", movement_sums=MANY)
    assert wanted("antom", payment("p", order="B"), order=by_itself, by_trade={}) == {"T1": None}


def test_decision_of_an_operator_needs_all_rows() -> None:
    assert wanted("mapi", batch("b", "T1^1.00^SUCCESS"), with_history=True) == {"A": None}
