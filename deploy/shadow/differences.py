"""The comparison of one notification, or one order, with the old handler's reaction to it. Pure."""

from enum import StrEnum

from msgspec import Struct

from deploy.shadow.shapes import NO_ANSWER, HandlerAnswer, OldAction, OldState
from schemas import money
from schemas.dispositions import HELD, Disposition, Reason, Refusal
from schemas.orders import PAID_STATUSES, ClosedBecause, Status
from workers.admin.reason_texts import REASONS


class MismatchKind(StrEnum):
    """The kinds of differences, the gravest first."""

    ACCEPTED_REFUSED = "accepted_refused"  # the old handler accepted a message that is refused here
    ACCEPTED_HELD = "accepted_held"  # it accepted a notification that is held here
    TAKEN_TWICE = "taken_twice"
    TAKEN_LATE = "taken_late"  # it applied news that later news had overtaken
    STATE_DIFFERS = "state_differs"
    REFUSED_ACCEPTED = "refused_accepted"
    NOT_ACKNOWLEDGED = "not_acknowledged"
    NEVER_SEEN = "never_seen"


class SeenNotification(Struct, frozen=True, kw_only=True):
    """One delivery with both reactions. `disposition` is `None` if it was refused here.

    `was_applied_before`: the old handler applied an earlier delivery of the same news. `is_exported`: the merchant's
    orders of its account are known.
    """

    refusal: str
    detail: str
    disposition: Disposition | None
    reason: Reason | None
    answer: HandlerAnswer | None
    action: OldAction | None
    status: int | None = None
    was_applied_before: bool = False
    is_exported: bool = False


class DecidedOrder(Struct, frozen=True, kw_only=True):
    """An order as it is here, after all its notifications."""

    status: Status
    closed_because: ClosedBecause | None = None
    amount_minor: int | None = None
    currency: str | None = None
    refunded_minor: int = 0

    def __str__(self) -> str:
        because = f" ({self.closed_because.value})" if self.closed_because else ""
        if self.amount_minor is None or self.currency is None:
            return f"{self.status.value}{because}"
        paid = money.Money(self.amount_minor, self.currency)
        back = money.text(self.refunded_minor, self.currency) or str(self.refunded_minor)
        refunded = f", {back} refunded" if self.refunded_minor else ""
        return f"{self.status.value}{because} {paid}{refunded}"


class Difference(Struct, frozen=True, kw_only=True):
    """A difference. `reason` is the program's word for it, `advice` a sentence for the person that looks at it."""

    kind: MismatchKind
    reason: str
    detail: str
    advice: str


def of_notification(seen: SeenNotification) -> Difference | None:
    """Return the difference in one delivery, if there is one. Without a known reaction there is none."""
    is_taken = seen.action is OldAction.APPLIED or (seen.action is None and seen.answer is HandlerAnswer.ACKNOWLEDGED)
    if seen.disposition is None:
        if not (is_taken and seen.refusal):
            return None
        advice = REFUSED_HERE.get(seen.refusal, _NO_FORM)
        return _difference(MismatchKind.ACCEPTED_REFUSED, seen.refusal, seen.detail, advice)
    if seen.disposition in HELD:
        return _of_held(seen) if is_taken else None
    if seen.action is OldAction.REFUSED or seen.answer is HandlerAnswer.REFUSED:
        return _difference(MismatchKind.REFUSED_ACCEPTED, _answered(seen), seen.detail, _REFUSED_GOOD)
    if seen.answer is HandlerAnswer.NOT_ACKNOWLEDGED:
        return _difference(MismatchKind.NOT_ACKNOWLEDGED, _answered(seen), seen.detail, _REPEATED)
    if seen.action is not OldAction.APPLIED or seen.reason is None:
        return None
    if seen.disposition is Disposition.DUPLICATE and seen.was_applied_before:
        return _difference(MismatchKind.TAKEN_TWICE, seen.reason.value, seen.detail, _TWICE)
    if seen.disposition is Disposition.STALE:
        return _difference(MismatchKind.TAKEN_LATE, seen.reason.value, seen.detail, _LATE)
    return None


def is_undecided(seen: SeenNotification) -> bool:
    """Return whether it waits here for a notification or an order that may be older than the shadow."""
    return seen.disposition is Disposition.PARKED and not _misses_order(seen)


def of_order(
    old: OldState | None, refunded_minor: int | None, ours: DecidedOrder, *, is_missing: bool = False
) -> Difference | None:
    """Return the difference between an order in the merchant's books and here; `None` if they agree.

    `is_missing`: the books do not have the order.
    """
    if is_missing:
        detail = f"books: no such order; here: {ours}"
        return _difference(MismatchKind.STATE_DIFFERS, "not_in_books", detail, _NOT_IN_BOOKS)
    agrees = old is None or _agrees(old, ours)
    agrees_on_refunds = refunded_minor is None or refunded_minor == ours.refunded_minor
    if agrees and agrees_on_refunds:
        return None
    shown = "" if old is None else old.value
    if not agrees_on_refunds and refunded_minor is not None:
        currency = ours.currency or ""
        shown = f"{shown}, {money.text(refunded_minor, currency) or refunded_minor} refunded".removeprefix(", ")
    reason = "state" if not agrees else "refunded_sum"
    return _difference(MismatchKind.STATE_DIFFERS, reason, f"books: {shown}; here: {ours}", _OTHER_STATE)


def never_seen() -> Difference:
    """Return the difference of a mirrored notification that the old handler's log does not have."""
    return _difference(MismatchKind.NEVER_SEEN, "not_in_log", "", _NEVER_SEEN)


def _of_held(seen: SeenNotification) -> Difference | None:
    if seen.disposition is Disposition.PARKED:
        if not _misses_order(seen):
            return None
        advice = "The merchant's orders do not have this order. Find out for which sale the old handler counted it."
        return _difference(MismatchKind.ACCEPTED_HELD, Reason.UNKNOWN_ORDER.value, seen.detail, advice)
    reason = seen.reason or Reason.OUR_FAULT
    return _difference(MismatchKind.ACCEPTED_HELD, reason.value, seen.detail, REASONS[reason])


def _misses_order(seen: SeenNotification) -> bool:
    return seen.reason is Reason.UNKNOWN_ORDER and seen.is_exported


def _answered(seen: SeenNotification) -> str:
    if seen.action is OldAction.REFUSED and seen.answer is not HandlerAnswer.REFUSED:
        return "old_did_refused"
    if seen.status == NO_ANSWER:
        return "no_answer"
    return f"status_{seen.status}" if seen.status not in (None, 200) else "other_text"


def _agrees(old: OldState, ours: DecidedOrder) -> bool:
    is_paid = ours.status in PAID_STATUSES
    match old:
        case OldState.WAITING:
            return ours.status is Status.WAITING
        case OldState.PAID:
            return is_paid
        case OldState.FINISHED:
            return ours.status is Status.FINISHED
        case OldState.PARTLY_REFUNDED:
            return is_paid and ours.refunded_minor > 0
        case OldState.REFUNDED:
            return ours.closed_because is ClosedBecause.REFUNDED
        case OldState.CLOSED:
            return ours.status is Status.CLOSED


def _difference(kind: MismatchKind, reason: str, detail: str, advice: str) -> Difference:
    return Difference(kind=kind, reason=reason, detail=detail, advice=advice)


_LOOK_UP = "Look the trade up in Alipay's merchant portal."
_FORGED = (
    f"{_LOOK_UP} If it is paid there, a key or setting here is wrong: run alipay-notify verify on the body. If not, "
    "the old handler accepted a forgery."
)
_NO_FORM = "Alipay sends no such request. Run alipay-notify verify on the body, which names the cause."
_NOT_OURS = (
    "Alipay signed it for another seller or application. If seller_id, app_id and client_id of the account are right "
    "here, the old handler counted money that another merchant got."
)
_NO_ACCOUNT = "The notification has no account here. Give its path with --route, or --account, and import it again."
_REFUSED_GOOD = (
    f"It is genuine and for this account. Alipay repeats it some eight times and then gives up. {_LOOK_UP} If it is "
    "paid there, deliver or refund."
)
_REPEATED = "It is genuine, and Alipay repeats it until it reads success. Nothing to do if a later try was taken."
_TWICE = "The old handler applied the same news twice. Check whether it delivered, booked or refunded twice."
_LATE = "It is older than the state that the order had. Check whether the old handler set the order back."
_OTHER_STATE = f"{_LOOK_UP} The order's notifications lead to the state here; correct the books if the portal agrees."
_NOT_IN_BOOKS = "Money came for an order that the merchant's orders do not have. Find the sale, or refund it."
_NEVER_SEEN = (
    "The balancer copied it, and the old handler's log does not have it. Look for a request that failed on its way."
)

REFUSED_HERE: dict[str, str] = {
    Refusal.MISSING_SIGN: _FORGED,
    Refusal.UNSUPPORTED_SIGN_TYPE: _FORGED,
    Refusal.UNKNOWN_KEY: _FORGED,
    Refusal.BAD_SIGNATURE: _FORGED,
    Refusal.NOT_OURS: _NOT_OURS,
    Refusal.UNKNOWN_ACCOUNT: _NO_ACCOUNT,
    Refusal.UNKNOWN_PATH: _NO_ACCOUNT,
}
