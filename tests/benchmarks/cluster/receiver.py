"""Cost of an acknowledged notification for a receiver on Kafka: the rungs of `receiver_cost`, with Kafka at the top.

The top rung is the process that `alipay-notify ingest` runs, receipts and the admin port included, in front of one real
broker. Only its log lines go nowhere. The broker and the sender have the other core.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

from msgspec import Struct
from prometheus_client import CollectorRegistry

from deploy import process
from deploy.cluster import receiver as cluster_receiver
from deploy.cluster import settings
from deploy.local import ports
from deploy.logs import LogWriter
from tests.benchmarks import receiver_cost
from tests.benchmarks.cluster import cores, servers
from tests.benchmarks.cluster.servers import Servers
from tests.benchmarks.receiver_cost import ACCOUNT, APP, SELLER, Merchant, Rung, Serve

CHECKING = "echo + parse + verify"
IN_MEMORY = "receiver, log in memory"
ON_KAFKA = "receiver, Kafka"
CONNECTIONS = 256  # with fewer, all of them wait for the broker and the receiver is idle


class Figures(Struct, frozen=True, kw_only=True):
    """The rungs, from the bare echo up: at full speed, and at a steady rate where batches are small.

    `ratio` is CPU per acknowledged notification, in bare echoes of the same run; `ratio_of_checking` is what reading
    the form and verifying its signature alone come to, and `log_us` the microseconds that Kafka adds to all the rest.
    Without a given rate there is no steady one.
    """

    ratio: float
    ratio_of_checking: float
    log_us: float
    full_speed: Sequence[Rung]
    steady: Sequence[Rung]
    steady_per_s: int


@asynccontextmanager
async def on_kafka(merchant: Merchant, *, kafka: str, prefix: str, receipt_key_file: str) -> AsyncIterator[int]:
    """All that the process does."""
    accounts = merchant.directory / "accounts.toml"
    shop = f'[accounts.{ACCOUNT}]\nfamily = "openapi"\nsign_type = "RSA2"\nkeys = ["key.pem"]\n'
    accounts.write_text(f'{shop}app_id = "{APP}"\nseller_id = "{SELLER}"\n', encoding="utf-8")
    told = settings.load(
        {}, accounts=accounts, kafka=kafka, topic_prefix=prefix, development=True, receipt_key_file=receipt_key_file,
        port=0, admin_port=0, drain_delay_s=0.0,
    )  # fmt: skip
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: ASYNC230
        lines = LogWriter(nowhere)
        lines.start()
        async with cluster_receiver.running(told, lines, CollectorRegistry()) as where:
            while not await ports.is_ok(urlsplit(where["admin"]).port or 0, "/readyz"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            process.freeze_heap()
            yield urlsplit(where["public"]).port or 0
        lines.close()


async def measure(given: Servers, *, requests: int, rounds: int, steady_per_s: int) -> Figures:
    """Both ladders, the least of the rounds."""
    place = await servers.place(given)
    top = partial(on_kafka, kafka=given.kafka, prefix=place.prefix, receipt_key_file=place.told["receipt_key_file"])
    rungs: dict[str, Serve] = {
        "echo": receiver_cost.echo,
        CHECKING: receiver_cost.verify,
        IN_MEMORY: receiver_cost.receiver,
        ON_KAFKA: top,
    }
    climb = partial(
        receiver_cost.ladder, rungs, requests=requests, rounds=rounds, connections=CONNECTIONS, cores=cores.ALL
    )
    full_speed = await asyncio.to_thread(climb)
    by_name = {rung.name: rung for rung in full_speed}
    return Figures(
        ratio=by_name[ON_KAFKA].ratio,
        ratio_of_checking=by_name[CHECKING].ratio,
        log_us=by_name[ON_KAFKA].cpu_us - by_name[IN_MEMORY].cpu_us,
        full_speed=full_speed,
        steady=await asyncio.to_thread(climb, rate=steady_per_s) if steady_per_s else (),
        steady_per_s=steady_per_s,
    )


def table(figures: Figures) -> str:
    """Both ladders as text."""
    shown = f"at full speed\n{receiver_cost.table(figures.full_speed)}"
    if not figures.steady:
        return shown
    return f"{shown}\nat {figures.steady_per_s:,}/s\n{receiver_cost.table(figures.steady)}"
