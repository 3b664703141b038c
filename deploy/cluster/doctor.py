"""The checks of `doctor` in a cluster: each server is reachable, durable, and set up.

The checks only read. They run concurrently, each with its own deadline, so that a dead broker does not block the rest.
Servers that are not configured are skipped; a missing Redis is reported, because it is a valid choice.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from redis.exceptions import RedisClusterException, RedisError

from deploy.cluster import connections, group_check, kafka_admin, settings, topic_check, topic_diff, topics
from deploy.cluster.servers import Servers
from deploy.cluster.settings import UnreadableFile
from deploy.cluster.topic_check import NotSeen
from deploy.doctor import Finding, FindingState
from workers.errors import InfrastructureDamaged, InfrastructureDown
from workers.postgres import migrations
from workers.postgres.database import Database, DatabaseLimits, DatabaseNotUsable, SqlConnection
from workers.redis import clients

WITHIN_S = 6.0
KEEPS_ALL = "noeviction"
SKEW_MAX_S = 2.0  # as the alert ClockSkewed
PLAN = "`alipay-notify topics plan` shows the differences"

_INFO = "return redis.call('INFO', 'memory')"  # a script, because `eval` is the one command that all clients have


async def examine(servers: Servers) -> list[Finding]:
    """Return the findings of all configured servers."""
    configured = servers.settings
    checks: list[tuple[str, Callable[[Servers], Awaitable[list[Finding]]]]] = []
    if configured.kafka:
        checks.append(("Kafka", _kafka))
    if configured.postgres or configured.postgres_file is not None:
        checks.append(("PostgreSQL", _postgres))
    checks.append(("Redis", _redis))
    found = await asyncio.gather(*(_checked(name, check, servers) for name, check in checks))
    return [finding for findings in found for finding in findings]


async def _checked(name: str, check: Callable[[Servers], Awaitable[list[Finding]]], servers: Servers) -> list[Finding]:
    try:
        return await check(servers)
    except UnreadableFile as error:
        advice = "correct the environment; `alipay-notify config show` explains each setting"
        return [Finding(name=name, state=FindingState.WRONG, detail=str(error), advice=advice)]


async def _kafka(servers: Servers) -> list[Finding]:
    configured = servers.settings
    wanted = topics.wanted(prefix=configured.topic_prefix, development=servers.development)
    try:
        found = await kafka_admin.look(
            connections.kafka(configured), [topic.name for topic in wanted], within_s=WITHIN_S
        )
    except NotSeen as error:
        advice = "start Kafka, or set ALIPAY_NOTIFY_KAFKA to brokers that this machine can reach"
        return [Finding(name="Kafka", state=FindingState.WRONG, detail=f"{configured.kafka}: {error}", advice=advice)]
    here = [Finding(name="Kafka", state=FindingState.OK, detail=f"answers at {configured.kafka}")]
    group = await group_check.examine(connections.kafka(configured), configured.group, within_s=WITHIN_S)
    return [*here, *_copies(found), *_topics(wanted, found, development=servers.development), group]


def _copies(found: Mapping[str, topics.Found]) -> list[Finding]:
    """Return the brokers whose copies are not in sync, or nothing."""
    behind = sorted({broker for there in found.values() for broker in there.behind})
    if not behind:
        return []
    count, of = sum(each.under_replicated for each in found.values()), sum(each.partitions for each in found.values())
    named = f"broker {behind[0]}" if len(behind) == 1 else f"brokers {', '.join(map(str, behind))}"
    detail = f"{named}: no copy in sync of {count} of our {of} partitions"
    advice = "start the broker, or wait until it has caught up: with one broker less, receivers may answer 503"
    return [Finding(name="Kafka copies", state=FindingState.WRONG, detail=detail, advice=advice)]


def _topics(wanted: Sequence[topics.TopicSpec], found: dict[str, topics.Found], *, development: bool) -> list[Finding]:
    weak = topic_check.weaknesses(wanted, found, development=development)
    if weak:
        return [
            Finding(name="topics", state=FindingState.WRONG, detail=fault, advice=topic_check.REMEDY) for fault in weak
        ]
    differing = topic_diff.between(wanted, found)
    if differing:
        detail = f"durable enough, but {len(differing)} settings or counts differ from the specification"
        return [Finding(name="topics", state=FindingState.NOTE, detail=detail, advice=PLAN)]
    return [Finding(name="topics", state=FindingState.OK, detail=f"all {len(wanted)} are as specified")]


async def _postgres(servers: Servers) -> list[Finding]:
    limits = DatabaseLimits(connections_max=1, acquire_s=WITHIN_S, command_s=WITHIN_S, connect_s=WITHIN_S)
    try:
        database = await Database.open(settings.postgres_address(servers.settings), limits=limits)
    except DatabaseNotUsable as error:
        advice = "correct it on the server: acknowledged transactions must survive a crash"
        return [Finding(name="PostgreSQL", state=FindingState.WRONG, detail=str(error), advice=advice)]
    except (InfrastructureDown, InfrastructureDamaged) as error:
        advice = "start PostgreSQL, or correct ALIPAY_NOTIFY_POSTGRES: address, user and password"
        return [Finding(name="PostgreSQL", state=FindingState.WRONG, detail=str(error), advice=advice)]
    try:
        return await database.read(_described)
    except (InfrastructureDown, InfrastructureDamaged) as error:
        advice = "grant this user the rights on the order store's tables"
        return [Finding(name="PostgreSQL", state=FindingState.WRONG, detail=str(error), advice=advice)]
    finally:
        await database.close()


async def _described(connection: SqlConnection) -> list[Finding]:
    version = await connection.fetchval("SELECT current_setting('server_version')")
    durability = "fsync, full_page_writes and synchronous_commit are on"
    here = Finding(name="PostgreSQL", state=FindingState.OK, detail=f"{version} answers; {durability}")
    asked_s = time.time()
    its_s = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
    skew_s = (asked_s + time.time()) / 2 - its_s
    return [here, _skew(skew_s), _schema(await migrations.applied(connection))]


def _skew(ahead_s: float) -> Finding:
    """Return the finding about this machine's clock, so far ahead of PostgreSQL's."""
    detail = f"this machine's clock is {ahead_s:+.1f} s from PostgreSQL's"
    if abs(ahead_s) <= SKEW_MAX_S:
        return Finding(name="clock skew", state=FindingState.OK, detail=detail)
    advice = "run NTP on both machines: PostgreSQL's clock decides, and the times in log lines are wrong"
    return Finding(name="clock skew", state=FindingState.WRONG, detail=detail, advice=advice)


def _schema(seen: int) -> Finding:
    needed = migrations.steps()[-1].number
    if seen < needed:
        detail = f"at step {seen}; this program needs step {needed}" if seen else "the database is empty"
        return Finding(name="schema", state=FindingState.WRONG, detail=detail, advice="run `alipay-notify db upgrade`")
    ahead = "" if seen == needed else f"; this program needs step {needed} and works with later ones"
    return Finding(name="schema", state=FindingState.OK, detail=f"at step {seen}{ahead}")


async def _redis(servers: Servers) -> list[Finding]:
    address = settings.redis_address(servers.settings)
    if address is None:
        detail = "not configured: workers run without idempotency locks, slower and just as correct"
        return [Finding(name="Redis", state=FindingState.OK, detail=detail)]
    client = clients.connect(address)
    try:
        async with asyncio.timeout(WITHIN_S):
            info = await client.eval(_INFO, 0)
    except (RedisError, RedisClusterException, OSError) as error:
        advice = "start Redis, or correct ALIPAY_NOTIFY_REDIS; until then workers run without locks, only slower"
        detail = f"{type(error).__name__}: {error}".rstrip(": ")
        return [Finding(name="Redis", state=FindingState.WRONG, detail=detail, advice=advice)]
    finally:
        await client.aclose()
    return [Finding(name="Redis", state=FindingState.OK, detail="answers"), _eviction(info)]


def _eviction(info: bytes | str) -> Finding:
    text = info.decode() if isinstance(info, bytes) else info
    lines = dict(line.partition(":")[::2] for line in text.splitlines())
    policy = lines.get("maxmemory_policy", "unknown")
    if policy == KEEPS_ALL:
        return Finding(name="Redis eviction", state=FindingState.OK, detail=policy)
    advice = f"set maxmemory-policy {KEEPS_ALL}: if locks are evicted, two workers do the same work"
    return Finding(name="Redis eviction", state=FindingState.NOTE, detail=policy, advice=advice)
