"""The five faults: how each is made and mended, and where it is seen."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.request import urlopen

from msgspec import Struct

from deploy.local import environment
from deploy.local.engine import ClusterEngine
from deploy.local.roles import Role
from deploy.local.stack import Stack
from tests.drill.payments import ACCOUNT, Payments
from tests.support import monitored

FORGERIES = 200
WRONG, FORGED = "DRILL-WRONG", "DRILL-FORGED"
COMMAND_WITHIN_S = 60.0


class Scene:
    """The running stack, and what the drill asks of it."""

    def __init__(self, started: Stack) -> None:
        assert started.engine is not None
        self.stack = started
        self.engine: ClusterEngine = started.engine
        found = started.addresses()
        self.console, self.prometheus, self.alertmanager = (
            found[name] for name in ("console", "prometheus", "alertmanager")
        )
        self.payments = Payments(self.engine.world, self.engine.public_url, self.console)
        brokers = len(started.kafka.brokers) if started.kafka else 0
        self._environ = {
            **os.environ,
            **environment.variables(started.directory, found, brokers=brokers, database=started.postgres),
        }

    @property
    def worker(self) -> Role:
        return self.engine.workers[-1]

    def shown(self, path: str) -> str:
        """The text of a page of the console, without its tags, each piece on a line."""
        with urlopen(f"{self.console}{path}", timeout=30) as answer:
            html = answer.read().decode()
        return "\n".join(piece.strip() for piece in re.split(r"<[^>]*>", html) if piece.strip())

    def query(self, expression: str) -> float:
        """The largest value of a query of Prometheus, 0 if there is none."""
        return max((float(each["value"][1]) for each in monitored.query(self.prometheus, expression)), default=0.0)

    def command(self, *arguments: str) -> str:
        """What a command of ours prints, in a shell that has sourced the stack's env."""
        argv = [sys.executable, "-P", "-m", "deploy.cli.main", *arguments]
        done = subprocess.run(
            argv, capture_output=True, text=True, env=self._environ, timeout=COMMAND_WITHIN_S, check=False
        )
        return done.stdout

    def held(self, order: str) -> list[Any]:
        found: list[Any] = monitored.asked(f"{self.console}/api/held?order={order}")["held"]
        return found


Look = Callable[[Scene], str]
Act = Callable[[Scene], Coroutine[Any, Any, None]]


class Fault(Struct, frozen=True, kw_only=True):
    """One fault. `page` and `command` return what tells of it, or an empty text as long as nothing does."""

    name: str
    title: str
    begin: Act
    end: Act
    ended: str  # what `end` does, in words
    alert: str
    labels: Mapping[str, str] = {}
    where: str
    page: Look
    words: str  # the command, as one types it
    command: Look
    todo: str
    goes_on: bool = False  # the next fault may begin while this one's alert is waited for
    clears: bool = False  # soon enough to be waited for


def line(text: str, pattern: str) -> str:
    """Return the line in which the pattern is, with single blanks, or an empty text."""
    found = next((each for each in text.splitlines() if re.search(pattern, each)), "")
    return " ".join(found.split())


def across(text: str, pattern: str) -> str:
    """Return the text of the pattern, which may go over lines, on one line."""
    found = re.search(pattern, text)
    return " ".join(found[0].split()) if found else ""


async def wrong_amount(scene: Scene) -> None:
    url = f"{scene.console}/api/orders/{ACCOUNT}/{WRONG}"
    await asyncio.to_thread(monitored.asked, url, {"amount": "99.00", "currency": "USD"}, "PUT")
    assert (await asyncio.to_thread(scene.payments.pay, WRONG)).status == 200


async def discard(scene: Scene) -> None:
    (held,) = scene.held(WRONG)
    done = await asyncio.to_thread(scene.command, "held", "discard", held["id"], "--reason", "drill: refunded")
    assert done != ""


async def forged_burst(scene: Scene) -> None:
    def send() -> None:
        for number in range(FORGERIES):
            order = FORGED if number == 0 else f"{FORGED}-{number}"
            forged = scene.payments.delivery("forged_signature", order)
            assert monitored.post(scene.engine.public_url, forged) == 401

    await asyncio.to_thread(send)


async def nothing(scene: Scene) -> None:
    """Forgeries have no effect."""


async def kill_worker(scene: Scene) -> None:
    await scene.worker.process.kill()


async def start_worker(scene: Scene) -> None:
    await scene.worker.process.start()


async def stop_redis(scene: Scene) -> None:
    assert scene.stack.redis is not None
    await scene.stack.redis.process.stop()


async def start_redis(scene: Scene) -> None:
    assert scene.stack.redis is not None
    await scene.stack.redis.process.start()


async def kill_broker(scene: Scene) -> None:
    assert scene.stack.kafka is not None
    await scene.stack.kafka.brokers[-1].process.kill()


async def start_broker(scene: Scene) -> None:
    assert scene.stack.kafka is not None
    await scene.stack.kafka.brokers[-1].process.start()


def refused(scene: Scene) -> str:
    shown = across(scene.shown("/"), r"Refused\s+[\d,]+\s+since start")
    return shown if int(re.sub(r"\D", "", shown) or 0) >= FORGERIES else ""


def doctor(pattern: str) -> Look:
    return lambda scene: line(scene.command("doctor"), pattern)


def value(expression: str) -> Look:
    def look(scene: Scene) -> str:
        found = scene.query(expression)
        return f"{found:.3g}" if found else ""

    return look


def gone(scene: Scene) -> str:
    return across(scene.shown("/"), rf"worker\s+\S+\s+{re.escape(scene.worker.admin_address)}\s+\S+\s+gone")


def mismatch(scene: Scene) -> str:
    """The order on the page of held notifications, and both amounts on the page of its notification."""
    if not (held := scene.held(WRONG)) or WRONG not in scene.shown("/held"):
        return ""
    return across(
        scene.shown(f"/held/{held[0]['id']}"), r"(?s)12\.80 USD.{0,200}?99\.00 USD|99\.00 USD.{0,200}?12\.80 USD"
    )


ALL = (
    Fault(
        name="amount",
        title="A wrong amount is paid",
        begin=wrong_amount,
        end=discard,
        ended="`alipay-notify held discard ID --reason …`",
        alert="AmountMismatch",
        labels={"reason": "amount_mismatch"},
        where="console, Held, and the notification's own page",
        page=mismatch,
        words="alipay-notify held list",
        command=lambda scene: line(scene.command("held", "list"), WRONG),
        todo="`alipay-notify held show ID` has both amounts. Is the paid one right: `held accept ID`. Is it wrong: "
        "refund it at Alipay, then `held discard ID`.",
        clears=True,
    ),
    Fault(
        name="forged",
        title=f"{FORGERIES} forged notifications arrive at once",
        begin=forged_burst,
        end=nothing,
        ended="nothing: they have no effect",
        alert="SignatureFailureSpike",
        labels={"account": ACCOUNT},
        where="console, Now: Refused; each in the Tail",
        page=refused,
        words=f"alipay-notify order show {FORGED} --account {ACCOUNT}",
        command=lambda scene: line(
            scene.command("order", "show", FORGED, "--account", ACCOUNT), "request refused.*bad_signature"
        ),
        todo="Payments of the account go on being accepted: so the failing ones are forgeries, which have no effect. "
        "Throttle their address at the load balancer. If none is accepted, a key is wrong: `alipay-notify keys check`.",
        goes_on=True,
    ),
    Fault(
        name="worker",
        title="A worker is killed",
        begin=kill_worker,
        end=start_worker,
        ended="the worker is started again",
        alert="TargetDown",
        labels={"job": "worker"},
        where="console, Now: Processes",
        page=gone,
        words="alipay-notify doctor",
        command=doctor("worker .* cannot be scraped"),
        todo="Start it again, and find out with which exit code it ended: 4 is its own decision, and its log has the "
        "reason.",
    ),
    Fault(
        name="redis",
        title="Redis is stopped",
        begin=stop_redis,
        end=start_redis,
        ended="Redis is started again",
        alert="RedisDown",
        where="board Reliability, Locks (its query in Prometheus); the console shows nothing, because nothing waits",
        page=value('sum(rate(alipay_notify_claims_total{outcome="error"}[1m]))'),
        words="alipay-notify doctor",
        command=doctor(r"wrong\s+Redis\s"),
        todo="Bring Redis back; nothing else. Until then workers go on without locks.",
    ),
    Fault(
        name="broker",
        title="Kafka loses one of three brokers",
        begin=kill_broker,
        end=start_broker,
        ended="the broker is started again",
        alert="UnderReplicated",
        where="board Pipeline, Under-replicated partitions (its query in Prometheus); the console shows nothing, "
        "because nothing waits",
        page=value("max(alipay_notify_under_replicated_partitions)"),
        words="alipay-notify doctor",
        command=doctor("Kafka copies"),
        todo="Start the broker again before anything happens to a second one: with one broker, receivers answer 503.",
    ),
)
