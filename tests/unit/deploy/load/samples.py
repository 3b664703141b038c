"""Sample notifications of one order, their answers, and their page, for the tests of the judge."""

from msgspec import structs

from deploy.load import judge, model
from deploy.load.corpus import SentNotification
from deploy.load.generator import Outcome, SendAttempt
from deploy.load.judge import Entry, Page, SeenEvent, SentOrder
from deploy.sandbox.notifications import MessageKind

ORDER = ("demo-cn", "L1-0-0000000")


def notification(
    id_: str, kind: MessageKind = MessageKind.PAID, *, refunded: int | None = 0, forged: bool = False
) -> SentNotification:
    return SentNotification(
        account=ORDER[0], order=ORDER[1], notify_id=id_, kind=kind, trade="T1", amount_minor=1280, currency="CNY",
        refunded_minor=refunded, forged=forged, duplicate=False,
    )  # fmt: skip


def attempt(index: int, outcome: Outcome = "ok", status: int = 200, *, number: int = 1) -> SendAttempt:
    return SendAttempt(index, number, 0.0, 0.0, 0.1, outcome, status if outcome in ("ok", "refused") else 0)


def order(*answered: tuple[SentNotification, Outcome, int]) -> SentOrder:
    """The order of these notifications, each sent once, with these answers."""
    attempts = [attempt(index, outcome, status) for index, (_, outcome, status) in enumerate(answered)]
    (made,) = judge.orders([one for one, _, _ in answered], attempts).values()
    return made


def entry(id_: str, disposition: str, *, version: int | None = None, reason: str = "", position: str = "") -> Entry:
    reasons = {"applied": "changed", "duplicate": "same_id", "stale": "old_news"}
    return Entry(
        kind="notification",
        notification_id=id_,
        disposition=disposition,
        reason=reason or reasons.get(disposition, "unknown_order"),
        version=version,
        position=position or f"{id_}/{disposition}/{version}",
    )


def page(*entries: Entry, of: tuple[SentNotification, ...]) -> Page:
    """The page of the order that these notifications make, with these entries."""
    made = structs.asdict(model.outcome(of))
    return Page(version=max((one.version or 0 for one in entries), default=0), timeline=entries, **made)


def event(version: int, shown: Page) -> SeenEvent:
    """The event of this version, of an order that stands as the page shows."""
    return SeenEvent(account=ORDER[0], order=ORDER[1], version=version, **structs.asdict(shown.outcome))
