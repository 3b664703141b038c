"""The merchant's order as notifications build it up: a join over facts, so that arrival order cannot matter.

An order remembers what each *claim* about it amounts to: a claim is one trade number with one amount, as some
notification named them. Usually there is exactly one. Beside the claims it keeps the *set* of refunds that were named
one by one: which claims they fit is known only when all claims are, so it is derived and never stored. Everything that
consumers see (status, money, flags) is derived from claims, refunds and what the merchant registered; nothing is kept
that could depend on what arrived first.
"""

from enum import StrEnum

from msgspec import Struct

from schemas.dispositions import Flag
from schemas.money import Money


class News(StrEnum):
    """What a notification tells of a trade, in our words: Alipay's own mean two things each."""

    WAITING = "waiting"
    PAID = "paid"
    FINISHED = "finished"
    FROZEN = "frozen"
    PARTLY_REFUNDED = "partly_refunded"
    REFUNDED = "refunded"
    EXPIRED = "expired"
    FAILED = "failed"
    OTHER = "other"


class State(StrEnum):
    """Where one trade stands, in rising rank. `LAPSED` and `REFUNDED` are the two that consumers see as CLOSED."""

    WAITING = "waiting"
    LAPSED = "lapsed"  # closed without payment: expired, or failed
    PAID = "paid"
    FINISHED = "finished"
    REFUNDED = "refunded"


RANK: dict[State, int] = {state: rank for rank, state in enumerate(State)}
PAYMENT_STATES = frozenset({State.PAID, State.FINISHED, State.REFUNDED})


class Status(StrEnum):
    """What consumers see of the state."""

    WAITING = "WAITING"
    PAID = "PAID"
    FINISHED = "FINISHED"
    CLOSED = "CLOSED"


STATUS: dict[State, Status] = {
    State.WAITING: Status.WAITING,
    State.LAPSED: Status.CLOSED,
    State.PAID: Status.PAID,
    State.FINISHED: Status.FINISHED,
    State.REFUNDED: Status.CLOSED,
}


PAID_STATUSES = frozenset({Status.PAID, Status.FINISHED})


class ClosedBecause(StrEnum):
    """Which of the two ends a CLOSED order met, and of the first, how."""

    EXPIRED = "expired"
    FAILED = "failed"
    REFUNDED = "refunded"


class Refund(Struct, frozen=True, kw_only=True, order=True, gc=False):
    """One refund that is named by its own number; `trade` where the message names the payment by Alipay's number."""

    id: str
    amount: Money
    trade: str = ""


class Claim(Struct, frozen=True, kw_only=True, gc=False):
    """What has been said of one trade number at one amount. Joining two claims of one key gives the claim of both.

    `lapsed` remembers that the trade was also said to have ended unpaid, which the state alone forgets once it rises.
    `refunds` is empty in a stored claim: `order_view.claims_with_refunds` fills it from the order's refunds.
    """

    trade: str
    amount_minor: int
    currency: str
    state: State = State.WAITING
    lapsed: ClosedBecause | None = None
    frozen: bool = False  # paid, and all that says so said "frozen"
    refunded_total_minor: int = 0  # the largest cumulative sum named
    refunds: dict[str, int] = {}  # refund id → minor units, of the refunds named one by one that fit this claim
    partly_refunded: bool = False  # a refund was named without its amount

    @property
    def key(self) -> tuple[str, int, str]:
        """Two notifications with the same key speak of the same thing."""
        return self.trade, self.amount_minor, self.currency


class Order(Struct, frozen=True, kw_only=True, gc=False):
    """One order of one account. `version` counts the visible changes, 1..n; 0 is registered and never heard of.

    `registered` says that the merchant told its amount, which is `expected`. `refused` are the flags of notifications
    that were wrong by it: their claims are not joined, so nothing else would remember them.
    """

    account: str
    number: str
    version: int = 0
    claims: tuple[Claim, ...] = ()  # sorted by key
    refunds: tuple[Refund, ...] = ()  # sorted; each fact once
    expected: Money | None = None
    registered: bool = False
    refused: frozenset[Flag] = frozenset()

    @property
    def is_note(self) -> bool:
        """Whether this only notes what was refused, or to which order a refund belongs: nothing that consumers see."""
        return not self.claims and not self.registered


class View(Struct, frozen=True, kw_only=True):
    """The order as consumers see it; equal views mean that nothing happened."""

    status: Status
    closed_because: ClosedBecause | None
    trade: str | None
    amount_minor: int | None
    currency: str | None
    refunded_minor: int
    flags: tuple[Flag, ...]

    @property
    def was_paid(self) -> bool:
        """Whether the buyer's money came, whatever became of it afterwards."""
        return self.status in PAID_STATUSES or self.closed_because is ClosedBecause.REFUNDED
