"""The timeline of an order, as the API and the console show it: notifications, events, decisions, claims. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from schemas import answers, money, retry_profiles, times, topics
from schemas.dispositions import Disposition
from schemas.retry_profiles import Profile
from workers import snoozes
from workers.admin import deliveries
from workers.admin.deliveries import Came
from workers.admin.timeline_entries import (
    ClaimEntry,
    DecisionEntry,
    Entry,
    ErasedEntry,
    EventEntry,
    HeldStep,
    NotificationEntry,
    RefusedEntry,
    RefusedRequest,
    RegisteredEntry,
    ReplayStep,
    ResentEntry,
    SettledStep,
    SnoozeStep,
    Step,
    UnsnoozeStep,
)
from workers.queries import (
    EVENT_ACTS,
    HELD_ACTS,
    Emitted,
    Hold,
    OperatorAct,
    OperatorDecision,
    OrderClaim,
    OrderPage,
)
from workers.settlement.plan import Delivery

_BY_RETRY = frozenset({Disposition.APPLIED, Disposition.DUPLICATE, Disposition.STALE})  # resolutions by no decision


class _Occurred(Struct):
    occurred_at: datetime
    version: int = 0
    type: str = ""


_occurred = msgspec.json.Decoder(_Occurred).decode


def of(page: OrderPage, refusals: Iterable[RefusedRequest], profile: Profile | None = None) -> list[Entry]:
    """Return all entries, oldest first; an event follows right after the entry that caused it.

    `profile` is the account's retry profile, or `None` if the account is not known.

    A notification stands where it was decided, so that versions rise. `groups` has them where they arrived.
    """
    entries: list[tuple[tuple[int, int, int, int], Entry]] = []
    places: dict[int | None, tuple[int, int, int]] = {}
    steps = _steps(page)
    counted = deliveries.numbered((each.notification_id, each.received_at_ms) for each in page.deliveries)
    for index, (delivery, came) in enumerate(zip(page.deliveries, counted, strict=True)):
        place = (delivery.decided_at_ms, 1, index)
        places[delivery.version] = place
        erased_at_ms = _erased_at_ms(page, delivery)
        own_steps = steps.get(str(delivery.position), ())
        entries.append(((*place, 0), _notification(delivery, came, own_steps, erased_at_ms)))
    last = len(page.deliveries)
    for index, decision in enumerate(page.decisions):
        place = (decision.at_ms, 1, last + index)
        places.setdefault(decision.version, place)
        entries.append(((*place, 0), _decision(decision)))
    for index, (act, versions) in enumerate(_acts_on_order(page)):
        entries.append(((act.at_ms, 0 if act.action == "register" else 2, index, 0), _act(act, versions)))
    entries += [((claim.delivery.decided_at_ms, 2, 0, 0), _claim(claim)) for claim in page.claims]
    for emitted in page.events:
        if emitted.event.topic != topics.ORDER_EVENT:
            continue  # a notice of a held notification, which stands in the timeline itself
        occurred = _occurred(emitted.event.value)
        place = places.get(occurred.version, (times.to_epoch_ms(occurred.occurred_at), 1, last))
        entries.append(((*place, occurred.version), _event(emitted, occurred)))
    entries += [((times.to_epoch_ms(entry.at), 2, 0, 0), entry) for entry in _refused(page, list(refusals), profile)]
    return [entry for _, entry in sorted(entries, key=lambda placed: placed[0])]


def groups(entries: Sequence[Entry]) -> list[tuple[Entry, list[EventEntry]]]:
    """Return each entry with the events that it caused, by the time that is shown: that of a notification's arrival.

    An event without its cause stands alone.
    """
    grouped: list[tuple[Entry, list[EventEntry]]] = []
    for entry in entries:
        cause = grouped[-1][0] if grouped else None
        is_caused = isinstance(cause, NotificationEntry | DecisionEntry) and cause.version is not None
        if isinstance(entry, EventEntry) and is_caused:
            grouped[-1][1].append(entry)
        else:
            grouped.append((entry, []))
    return sorted(grouped, key=lambda group: _shown_at(group[0]))


def _shown_at(entry: Entry) -> datetime:
    if isinstance(entry, NotificationEntry | ClaimEntry):
        return entry.received_at
    return entry.occurred_at if isinstance(entry, EventEntry) else entry.at


def _steps(page: OrderPage) -> dict[str, tuple[Step, ...]]:
    """Return the way of each notification that is held, or was."""
    decided_at_ms = {delivery.position: delivery.decided_at_ms for delivery in page.deliveries}
    found: dict[str, tuple[Step, ...]] = {}
    for hold in page.holds:
        steps: list[Step] = [_held(hold)]
        steps += [_step(act) for act in page.acts if act.action in HELD_ACTS and act.subject == str(hold.position)]
        if hold.resolution in _BY_RETRY:
            at = times.from_epoch_ms(decided_at_ms[hold.position])
            steps.append(SettledStep(disposition=Disposition(hold.resolution), at=at))
        found[str(hold.position)] = tuple(sorted(steps, key=lambda step: step.at))
    return found


def _held(hold: Hold) -> HeldStep:
    return HeldStep(
        disposition=hold.disposition,
        reason=hold.reason,
        detail=hold.detail,
        attempts=hold.attempts,
        due_at=None if hold.due_at_ms is None else times.from_epoch_ms(hold.due_at_ms),
        at=times.from_epoch_ms(hold.first_at_ms),
    )


def _step(act: OperatorAct) -> ReplayStep | SnoozeStep | UnsnoozeStep:
    at = times.from_epoch_ms(act.at_ms)
    if act.action == "replay":
        return ReplayStep(by=act.by, why=act.why, at=at)
    if act.action == "unsnooze":
        return UnsnoozeStep(by=act.by, why=act.why, at=at)
    until, why = snoozes.until_and_why(act.why)
    return SnoozeStep(until=until, by=act.by, why=why, at=at)


def _erased_at_ms(page: OrderPage, delivery: Delivery) -> int | None:
    """Return when the bytes were erased: its own if it was held, else those of the first with its id."""
    own = next((hold for hold in page.holds if hold.position == delivery.position), None)
    return page.erased_at_ms.get(delivery.notification_id) if own is None else own.erased_at_ms


def _notification(
    delivery: Delivery, came: Came, steps: tuple[Step, ...], erased_at_ms: int | None
) -> NotificationEntry:
    return NotificationEntry(
        notification_id=delivery.notification_id,
        type=delivery.type,
        status=delivery.status,
        news=delivery.news,
        disposition=delivery.disposition,
        reason=delivery.reason,
        detail=delivery.detail,
        version=delivery.version,
        delivery=came.number,
        first_received_at=times.from_epoch_ms(came.first_ms),
        received_at=times.from_epoch_ms(delivery.received_at_ms),
        decided_at=times.from_epoch_ms(delivery.decided_at_ms),
        position=str(delivery.position),
        erased_at=None if erased_at_ms is None else times.from_epoch_ms(erased_at_ms),
        steps=steps,
        is_answer=delivery.type in answers.TYPES,
    )


def _refused(page: OrderPage, refusals: Sequence[RefusedRequest], profile: Profile | None) -> Iterator[RefusedEntry]:
    """Yield the refused requests, with what Alipay will do next at the last one of each notification."""
    counted = deliveries.numbered((each.notification_id, each.received_at_ms) for each in refusals)
    for refusal, came in zip(refusals, counted, strict=True):
        is_accepted = deliveries.is_accepted_after(page.deliveries, refusal.notification_id, refusal.received_at_ms)
        is_open = came.is_last and not is_accepted and profile is not None
        tries = retry_profiles.expected(profile, came.moments_ms) if is_open and profile is not None else None
        next_ms = None if tries is None else tries.next_ms
        yield RefusedEntry(
            reason=str(refusal.reason),
            notification_id=refusal.notification_id,
            delivery=came.number,
            first_at=times.from_epoch_ms(came.first_ms),
            is_accepted=is_accepted,
            next_at=None if next_ms is None else times.from_epoch_ms(next_ms),
            gives_up_at=None if next_ms is None or tries is None else times.from_epoch_ms(tries.gives_up_ms),
            at=times.from_epoch_ms(refusal.received_at_ms),
        )


def _acts_on_order(page: OrderPage) -> Iterator[tuple[OperatorAct, tuple[int, ...]]]:
    """Yield the acts on the order itself, with the versions of events that were sent again together.

    The id of an event may be the subject of another order, whose number ends in a colon and digits.
    """
    order, events = f"{page.account}:{page.number}", {emitted.event.id for emitted in page.events}
    again: dict[tuple[int, str, str], list[OperatorAct]] = {}
    for act in page.acts:
        if act.action in EVENT_ACTS:
            if act.subject in events:
                again.setdefault((act.at_ms, act.by, act.why), []).append(act)
        elif act.action not in HELD_ACTS and act.subject == order:
            yield act, ()
    for group in again.values():
        yield group[0], tuple(sorted(int(act.subject.rpartition(":")[2]) for act in group))


def _act(act: OperatorAct, versions: tuple[int, ...]) -> RegisteredEntry | ErasedEntry | ResentEntry:
    at = times.from_epoch_ms(act.at_ms)
    match act.action:
        case "erase":
            return ErasedEntry(by=act.by, why=act.why, at=at)
        case "resend":
            return ResentEntry(versions=versions, endpoint=None, by=act.by, why=act.why, at=at)
        case "callback_resend":
            endpoint, _, why = act.why.partition(": ")
            return ResentEntry(versions=(), endpoint=endpoint, by=act.by, why=why, at=at)
    return RegisteredEntry(by=act.by, what=act.why, at=at)


def _decision(decision: OperatorDecision) -> DecisionEntry:
    return DecisionEntry(
        action=decision.action,
        held_id=decision.held_id,
        notification_id=decision.notification_id,
        version=decision.version,
        refunded_minor=None if decision.amount is None else decision.amount.minor,
        refunded=None if decision.amount is None else money.text(decision.amount.minor, decision.amount.currency),
        currency=None if decision.amount is None else decision.amount.currency,
        by=decision.by,
        why=decision.why,
        at=times.from_epoch_ms(decision.at_ms),
    )


def _claim(claim: OrderClaim) -> ClaimEntry:
    return ClaimEntry(
        notification_id=claim.delivery.notification_id,
        reason=claim.delivery.reason,
        detail=claim.delivery.detail,
        resolution=claim.resolution,
        received_at=times.from_epoch_ms(claim.delivery.received_at_ms),
        position=str(claim.delivery.position),
    )


def _event(emitted: Emitted, occurred: _Occurred) -> EventEntry:
    return EventEntry(
        id=emitted.event.id,
        type=occurred.type,
        version=occurred.version,
        occurred_at=occurred.occurred_at,
        sent_at=None if emitted.sent_at_ms is None else times.from_epoch_ms(emitted.sent_at_ms),
    )
