"""One payment each second through the load balancer, as Alipay sends them, and how each fared."""

import asyncio
import time
from datetime import UTC, datetime
from random import SystemRandom

from msgspec import Struct

from deploy.sandbox import planning, scenario_files
from deploy.sandbox.notifications import SignedDelivery
from deploy.sandbox.world import World
from tests.support import monitored

ACCOUNT = "demo-app"
EVERY_S = 1.0


class Sent(Struct, frozen=True, kw_only=True):
    """One payment. `at` is on the monotonic clock; `status` is 0 if there was no answer."""

    order: str
    at: float
    seconds: float
    status: int


class Fared(Struct, frozen=True, kw_only=True):
    """How the payments of a period fared. `event_s` is the longest time from a receipt to its order event."""

    count: int
    refused: int
    answer_s: float
    event_s: float


class Payments:
    """Sends payments until it is cancelled."""

    def __init__(self, world: World, public_url: str, console_url: str) -> None:
        self.sent: list[Sent] = []
        self._world = world
        self._scenarios = scenario_files.load_all()
        self._planner = planning.Planner(SystemRandom())
        self._public = public_url
        self._console = console_url

    async def run(self) -> None:
        due, number = time.monotonic(), 0
        while True:
            number += 1
            self.sent.append(await asyncio.to_thread(self.pay, f"DRILL-{number}"))
            due += EVERY_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def pay(self, order: str) -> Sent:
        """Send one payment, once."""
        one = self.delivery("paid", order)
        at = time.monotonic()
        try:
            status = monitored.post(self._public, one)
        except OSError:
            status = 0
        return Sent(order=order, at=at, seconds=time.monotonic() - at, status=status)

    def delivery(self, scenario: str, order: str) -> SignedDelivery:
        """Return the first notification of a scenario, as of now."""
        (course, *_) = self._planner.plan(
            self._scenarios[scenario],
            self._world.account(ACCOUNT),
            now=datetime.now(UTC),
            base_url=self._public,
            wishes=planning.Wishes(order=order),
        )
        return course.steps[0].job.notification.delivery(datetime.now(UTC))

    def fared(self, since: float, until: float) -> Fared:
        """Return how those fared that were sent in the period. Each acknowledged one has to get its order event."""
        these = [sent for sent in self.sent if since <= sent.at < until]
        accepted = [sent for sent in these if sent.status == 200]
        return Fared(
            count=len(these),
            refused=len(these) - len(accepted),
            answer_s=max((sent.seconds for sent in these), default=0.0),
            event_s=max((self._until_event(sent.order) for sent in accepted), default=0.0),
        )

    def _until_event(self, order: str) -> float:
        """Return the seconds from the receipt of a payment to the publication of its order event."""
        deadline = time.monotonic() + monitored.WITHIN_S
        while True:
            timeline = monitored.asked(f"{self._console}/api/orders/{ACCOUNT}/{order}")["timeline"]
            received = [entry["received_at"] for entry in timeline if entry["kind"] == "notification"]
            sent = [entry["sent_at"] for entry in timeline if entry["kind"] == "event" and entry["sent_at"]]
            if received and sent:
                return (datetime.fromisoformat(max(sent)) - datetime.fromisoformat(min(received))).total_seconds()
            assert time.monotonic() < deadline, f"the acknowledged payment of {order} has no order event"
            time.sleep(0.5)
