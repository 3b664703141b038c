"""Orders in memory for the settlement tests: short calls that deliver facts and return what became of them."""

from typing import Any

from schemas.dispositions import Disposition, Flag, Reason
from tests.support import facts
from tests.support.facts import Fact
from tests.support.world import World
from workers.settlement import decision, loading, order_view
from workers.settlement.plan import Delivery, HeldRow, ParsedRecord, ParseFailure, Position

USD_100 = {"amount_minor": 10000, "currency": "USD"}


def deliver(world: World, *delivered: Fact) -> list[Delivery]:
    """Deliver these facts as one batch."""
    return world.deliver(*(facts.notification(fact, world.account) for fact in delivered))


def outcome(world: World, fact: Fact) -> tuple[Disposition, Reason]:
    """Deliver one fact; return its disposition and the reason."""
    delivery = deliver(world, fact)[0]
    return delivery.disposition, delivery.reason


def mapi(orders: str = "any", **registered: dict[str, Any]) -> World:
    return World(facts.account("mapi", orders), registered)


def openapi(**registered: dict[str, Any]) -> World:
    return World(facts.account("openapi"), registered)


def antom(**registered: dict[str, Any]) -> World:
    return World(facts.account("antom"), registered)


def flags(world: World, number: str = "A") -> set[Flag]:
    return set(order_view.view(world.order(number)).flags)


def failed(
    reason: Reason, disposition: Disposition, *, digest: bytes = b"", offset: int = 0, held: HeldRow | None = None
) -> ParsedRecord:
    """Return a record that could not be read."""
    failure = ParseFailure(
        disposition=disposition, reason=reason, detail="d", order="A", notification_id="n", digest=digest
    )
    account = facts.account("mapi")
    return ParsedRecord(
        position=Position(0, offset),
        record=facts.record(b"x", account),
        account=account.name,
        received_at_ms=1,
        notification=None,
        failure=failure,
        held=held,
    )


def settle(world: World, parsed: ParsedRecord) -> Delivery:
    """Settle one parsed record in the world's store."""
    world.store.settle_now(
        loading.load_request([parsed]),
        lambda snapshot: decision.decide([parsed], snapshot, facts.ACCOUNTS, now_ms=world.now_ms, chance=lambda: 0.5),
    )
    return world.store.deliveries[parsed.position]
