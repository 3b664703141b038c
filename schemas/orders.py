"""The merchant's order: a join of the facts in its notifications, so their arrival order does not matter.

An order stores its *claims*, its individual refunds and captures, and the merchant's registration. A claim is one trade
number with one amount, as notifications claimed them; usually an order has exactly one. Refunds and captures, together
its *movements*, are stored as sets beside the claims, because the claims that they fit are known only when all claims
are. An order with many has them as rows of their own, and keeps their sums: then one more costs the same as the first.

Everything that consumers see (status, amounts, flags) is derived from these, and never stored in a form that depends on
arrival order.
"""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from schemas.dispositions import Flag
from schemas.money import Money


class News(StrEnum):
    """The event that a notification reports about a trade. Alipay's own status values are ambiguous."""

    WAITING = "waiting"
    AUTHORIZED = "authorized"  # the amount is reserved until it is captured
    CAPTURED = "captured"
    CAPTURE_FAILED = "capture_failed"
    PAID = "paid"
    FINISHED = "finished"
    FROZEN = "frozen"
    PARTLY_REFUNDED = "partly_refunded"
    REFUNDED = "refunded"
    EXPIRED = "expired"
    FAILED = "failed"
    REVERSED = "reversed"  # the merchant cancelled the trade: refunded if it was paid, else closed
    OTHER = "other"


class State(StrEnum):
    """The state of one trade, in rising rank; `STATUS` has how consumers see it."""

    WAITING = "waiting"
    AUTHORIZED = "authorized"
    LAPSED = "lapsed"  # closed without payment: expired, or failed
    PAID = "paid"
    FINISHED = "finished"
    REFUNDED = "refunded"


# The stores keep these numbers, so they never change. `AUTHORIZED` came later, and is stored as WAITING.
RANK: dict[State, float] = {
    State.WAITING: 0,
    State.AUTHORIZED: 0.5,
    State.LAPSED: 1,
    State.PAID: 2,
    State.FINISHED: 3,
    State.REFUNDED: 4,
}
PAYMENT_STATES = frozenset({State.PAID, State.FINISHED, State.REFUNDED})


class Status(StrEnum):
    """The state of an order as consumers see it."""

    WAITING = "WAITING"
    PAID = "PAID"
    FINISHED = "FINISHED"
    CLOSED = "CLOSED"


STATUS: dict[State, Status] = {
    State.WAITING: Status.WAITING,
    State.AUTHORIZED: Status.WAITING,
    State.LAPSED: Status.CLOSED,
    State.PAID: Status.PAID,
    State.FINISHED: Status.FINISHED,
    State.REFUNDED: Status.CLOSED,
}


PAID_STATUSES = frozenset({Status.PAID, Status.FINISHED})


class ClosedBecause(StrEnum):
    """Why an order is CLOSED: expired or failed without payment, or fully refunded."""

    EXPIRED = "expired"
    FAILED = "failed"
    REFUNDED = "refunded"


class Refund(Struct, frozen=True, kw_only=True, order=True, gc=False):
    """One refund with its own number. `trade` is Alipay's number of the payment; empty if the message has none."""

    id: str
    amount: Money
    trade: str = ""

    @property
    def minor(self) -> int:
        return self.amount.minor

    @property
    def currency(self) -> str:
        return self.amount.currency


class Capture(Struct, frozen=True, kw_only=True, order=True, gc=False):
    """One capture of an authorised payment. A failed one has no amount. `trade` may be empty, as that of a refund."""

    id: str
    trade: str = ""
    minor: int = 0
    currency: str = ""

    @property
    def has_failed(self) -> bool:
        return not self.minor


Movement = Refund | Capture
ClaimKey = tuple[str, int, str]  # trade, amount in minor units, currency


class Sums(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The sums of all refunds, or of all captures, of one order: the same for every order of arrival.

    `count` is the number of facts. `largest` has the largest amount for each trade and currency that they name, sorted;
    a trade may be empty, as a movement's. `totals` has the sum by currency, and `fitting`, sorted, the sum of those
    that concern a claim and fit it. In a sum, one number counts once, with its largest amount.
    """

    count: int = 0
    largest: tuple[tuple[str, str, int], ...] = ()  # trade, currency, minor units
    totals: dict[str, int] = {}
    fitting: tuple[tuple[ClaimKey, int], ...] = ()

    def of(self, claim: "Claim") -> int:
        """Return the sum of those that concern the claim and fit it."""
        return next((minor for key, minor in self.fitting if key == claim.key), 0)


class MovementSums(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The sums of an order's movements, which are rows of their own."""

    refunds: Sums = Sums()
    captures: Sums = Sums()


class Claim(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The joined facts about one trade number at one amount. Joining is commutative, associative and idempotent.

    `lapsed` keeps that the trade was also reported to have ended unpaid, because the state loses this when it rises.
    `refunds_minor` and `captured_minor` are 0 in a stored claim. Settlement fills them in from the order's movements to
    derive the view.
    """

    trade: str
    amount_minor: int
    currency: str
    state: State = State.WAITING
    lapsed: ClosedBecause | None = None
    reversed: bool = False  # the merchant cancelled the trade
    frozen: bool = False  # every notification of the payment reported the funds as frozen
    refunded_total_minor: int = 0  # the largest cumulative refund sum reported
    refunds_minor: int = 0  # the sum of the individual refunds that fit this claim; it may be above the amount
    partly_refunded: bool = False  # a refund without an amount was reported
    authorized_until_ms: int = 0  # when the authorisation ends; 0 if the amount was never only authorised
    captured_minor: int = 0  # of an amount that was only authorised; 0 if no capture is known

    @property
    def paid_minor(self) -> int:
        """The amount that was paid, if it was: the captured sum of an authorised amount."""
        return self.captured_minor or self.amount_minor

    @property
    def is_capturable(self) -> bool:
        """Whether captures decide about its state, unless it was reported as paid. Once true, it stays true."""
        return self.authorized_until_ms > 0 or self.lapsed is not None

    @property
    def key(self) -> ClaimKey:
        """Notifications with the same key belong to the same claim."""
        return self.trade, self.amount_minor, self.currency


class Order(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One order of one account. `version` counts the visible changes from 1; it is 0 before the first notification.

    If the merchant has registered the order, `registered` is true and `expected` is its amount, or `None` if any amount
    is accepted. An order that Alipay may report in several currencies has its other amounts in `alternatives`.
    `refused` are the flags of notifications that contradict these amounts. They must be stored because the claims of
    such notifications are not joined.

    `movement_sums` is `None` while `refunds` and `captures` hold all movements. Once there are many, these are empty,
    and the movements are rows of their own (`workers.settlement.movements`).

    `set_aside` and `refund_limit_minor` are decisions of operators, and `has_top_rank` follows from them
    (`workers.settlement.order_view.with_rank_of`). `set_aside` are the keys of claims that do not
    count: a new notification of such a payment is held without joining. `refund_limit_minor` is a sum of refunds that
    was accepted although it is more than was paid.
    """

    account: str
    number: str
    version: int = 0
    claims: tuple[Claim, ...] = ()  # sorted by key
    refunds: tuple[Refund, ...] = ()  # sorted; each fact once
    expected: Money | None = None
    registered: bool = False
    refused: frozenset[Flag] = frozenset()
    alternatives: tuple[Money, ...] = ()  # one per currency, and none in the currency of `expected`
    captures: tuple[Capture, ...] = ()  # sorted; each fact once
    set_aside: tuple[ClaimKey, ...] = ()  # sorted
    refund_limit_minor: int = 0
    movement_sums: MovementSums | None = None
    has_top_rank: bool = False

    @property
    def has_refunds(self) -> bool:
        return bool(self.refunds) or (self.movement_sums is not None and self.movement_sums.refunds.count > 0)

    @property
    def has_captures(self) -> bool:
        return bool(self.captures) or (self.movement_sums is not None and self.movement_sums.captures.count > 0)

    @property
    def amounts(self) -> tuple[Money, ...]:
        """All registered amounts, in the merchant's order."""
        return () if self.expected is None else (self.expected, *self.alternatives)

    def expected_in(self, currency: str) -> Money | None:
        """Return the registered amount in this currency, or `None`."""
        return next((amount for amount in self.amounts if amount.currency == currency), None)

    @property
    def is_note(self) -> bool:
        """Whether consumers see nothing of this order: it holds only flags, or only refunds of an order to come."""
        return not self.claims and not self.registered


class ClaimView(Struct, frozen=True, kw_only=True, gc=False):
    """One of several payments that notifications report of an order: a trade at an amount, as `View` has them."""

    trade: str
    status: Status
    amount_minor: int
    currency: str
    refunded_minor: int


class View(Struct, frozen=True, kw_only=True, gc=False):
    """An order as consumers see it. A notification that leaves the view equal causes no order event.

    `authorized_minor` is the amount that was reserved before it was captured; `amount_minor` is then what was captured,
    as soon as a capture is known.

    `refund_accepted_minor` is the refunded sum if that is more than was paid and an operator has accepted it;
    `refunded_minor` is never more than was paid.
    """

    status: Status
    closed_because: ClosedBecause | None
    trade: str | None
    amount_minor: int | None
    currency: str | None
    refunded_minor: int
    flags: tuple[Flag, ...]
    authorized_minor: int | None = None
    authorized_until: datetime | None = None
    refund_accepted_minor: int | None = None
    claims: tuple[ClaimView, ...] = ()  # sorted; all of the order, if they contradict each other

    @property
    def was_paid(self) -> bool:
        """Whether the buyer has paid, also if the payment was refunded later."""
        return was_paid(self.status, self.closed_because)


def was_paid(status: str | None, closed_because: str | None) -> bool:
    """Return whether an order in this state was paid, also if the payment was refunded later."""
    return status in PAID_STATUSES or closed_because == ClosedBecause.REFUNDED
