"""One payment under two order numbers: the order that has it, and what becomes of the second notification."""

from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.notification import NamedNumber, NumberKind
from schemas.orders import Order
from tests.support import facts
from tests.support.facts import payment, periodic
from tests.support.world import World
from tests.unit.workers.settlement.worlds import antom, deliver, outcome
from workers.settlement import second_numbers
from workers.settlement.plan import AccountKey

ACCOUNT = facts.account("antom")
HKD_100 = {"amount_minor": 10000, "currency": "HKD"}


def test_order_that_came_first_is_found_by_the_payment_from_either_side() -> None:
    world = antom()
    deliver(world, periodic("s"))
    orders, by_trade = world.store.orders, {(ACCOUNT.name, "T1"): "T1"}
    named, unnamed = facts.notification(payment("p"), ACCOUNT), facts.notification(periodic("s"), ACCOUNT)
    assert second_numbers.order_of_trade(named, orders, {}) == world.order("T1")
    assert second_numbers.order_of_trade(unnamed, orders, by_trade) is None
    assert second_numbers.order_of_trade(unnamed, orders, {(ACCOUNT.name, "T1"): "A"}) is None
    assert second_numbers.number_of(named, orders, {}) == "T1"


def test_order_that_has_only_the_number_of_a_trade_does_not_have_its_payment() -> None:
    orders: dict[AccountKey, Order] = {(ACCOUNT.name, "T1"): Order(account=ACCOUNT.name, number="T1", registered=True)}
    assert second_numbers.order_of_trade(facts.notification(payment("p"), ACCOUNT), orders, {}) is None


def test_refund_is_filed_under_the_order_that_is_known_of_it() -> None:
    by_trade, by_refund = {(ACCOUNT.name, "T1"): "A", (ACCOUNT.name, "T2"): "B"}, {(ACCOUNT.name, "R1"): "A"}

    def filed(told: facts.Fact, account: Account = ACCOUNT) -> str:
        return second_numbers.filed_under(facts.notification(told, account), {}, by_trade, by_refund)

    assert filed(facts.antom_refund("R1", "100")) == "A"
    assert filed(facts.antom_refund("R2", "100", paymentId="T2")) == "B"
    assert filed(facts.antom_refund("R2", "100")) == ""
    assert filed(facts.capture("C1", "100")) == "A"


def test_refunds_of_several_orders_are_filed_under_none() -> None:
    mapi = facts.account("mapi")
    by_trade = {(mapi.name, "T1"): "A", (mapi.name, "T2"): "B", (mapi.name, "T3"): "A"}
    for details, order in (("T1#T3", "A"), ("T1#T2", ""), ("T1#T9", "")):
        told = facts.batch("b", "#".join(f"{trade}^1.00^SUCCESS" for trade in details.split("#")))
        assert second_numbers.filed_under(facts.notification(told, mapi), {}, by_trade, {}) == order


def test_second_number_leads_to_the_order_and_its_copies_stand_there() -> None:
    world = antom()
    deliver(world, periodic("s"))
    joined, copy = deliver(world, payment("p"), payment("p"))
    assert (joined.order, joined.disposition, joined.reason) == ("T1", Disposition.DUPLICATE, Reason.SAME_FACT)
    assert (copy.order, copy.reason) == ("T1", Reason.SAME_ID)
    assert [row.named for row in world.store.numbers][-1] == NamedNumber(NumberKind.ORDER, "A")
    assert world.seen().keys() == {"T1"}


def test_subscription_s_payment_joins_the_order_that_named_it() -> None:
    world = antom()
    deliver(world, payment("p"))
    assert outcome(world, periodic("s")) == (Disposition.DUPLICATE, Reason.SAME_FACT)
    assert world.seen().keys() == {"A"}


def test_both_shapes_in_one_batch_are_one_order() -> None:
    for told in ([payment("p"), periodic("s")], [periodic("s"), payment("p")]):
        world = antom()
        deliver(world, *told)
        assert len(world.seen()) == 1


def test_registered_order_whose_payment_another_order_has_is_flagged() -> None:
    world = antom(A=HKD_100)
    deliver(world, periodic("s"))
    (held,) = deliver(world, payment("p"))
    assert (held.order, held.disposition, held.reason) == ("A", Disposition.QUARANTINED, Reason.SECOND_TRADE)
    assert held.detail == "order T1 has this payment"
    assert world.seen()["A"]["flags"] == {"second_trade"}


def test_payment_of_a_subscription_needs_no_registration() -> None:
    world = World(facts.account("antom", "registered"))
    assert outcome(world, payment("p"))[0] is Disposition.PARKED
    assert outcome(world, periodic("s")) == (Disposition.APPLIED, Reason.CHANGED)
    world.wait(0.1)
    world.sweep()
    assert not world.store.held
    assert world.seen().keys() == {"T1"}
    assert outcome(world, payment("w", "PAYMENT_PENDING"))[0] is Disposition.STALE


def test_plan_names_the_payments_that_no_other_order_may_have() -> None:
    world = antom()
    deliver(world, payment("p"))
    assert world.store.settled_batches[-1].sole_trades == {("T1", ACCOUNT.name, "A")}
    deliver(world, periodic("s"))
    assert world.store.settled_batches[-1].sole_trades == set()
