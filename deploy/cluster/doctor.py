"""What `doctor` looks at in a cluster: each server, whether it is there, and whether it keeps what it is given.

Only reading, each server under a deadline of its own and all at once: a doctor who hangs on a dead broker helps nobody.
What is not named is not looked at; but Redis may be left out for good, so that is said.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from redis.exceptions import RedisClusterException, RedisError

from deploy.cluster import connections, kafka_admin, settings, topic_check, topic_diff, topics
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
PLAN = "`alipay-notify topics plan` shows it"

_INFO = "return redis.call('INFO', 'memory')"  # as a script, since a script is what every client of ours can run


async def examine(servers: Servers) -> list[Finding]:
    """All that can be seen of the servers that are named."""
    told = servers.settings
    looks: list[tuple[str, Callable[[Servers], Awaitable[list[Finding]]]]] = []
    if told.kafka:
        looks.append(("Kafka", _kafka))
    if told.postgres or told.postgres_file is not None:
        looks.append(("PostgreSQL", _postgres))
    looks.append(("Redis", _redis))
    found = await asyncio.gather(*(_looked(name, look, servers) for name, look in looks))
    return [finding for findings in found for finding in findings]


async def _looked(name: str, look: Callable[[Servers], Awaitable[list[Finding]]], servers: Servers) -> list[Finding]:
    try:
        return await look(servers)
    except UnreadableFile as error:
        advice = "correct the environment; `alipay-notify config show` explains each setting"
        return [Finding(name=name, state=FindingState.WRONG, detail=str(error), advice=advice)]


async def _kafka(servers: Servers) -> list[Finding]:
    told = servers.settings
    wanted = topics.wanted(prefix=told.topic_prefix, development=servers.development)
    try:
        found = await kafka_admin.look(connections.kafka(told), [topic.name for topic in wanted], within_s=WITHIN_S)
    except NotSeen as error:
        advice = "start it, or name brokers that this machine reaches in ALIPAY_NOTIFY_KAFKA"
        return [Finding(name="Kafka", state=FindingState.WRONG, detail=f"{told.kafka}: {error}", advice=advice)]
    here = [Finding(name="Kafka", state=FindingState.OK, detail=f"answers at {told.kafka}")]
    return here + _topics(wanted, found, development=servers.development)


def _topics(wanted: Sequence[topics.TopicSpec], found: dict[str, topics.Found], *, development: bool) -> list[Finding]:
    weak = topic_check.weaknesses(wanted, found, development=development)
    if weak:
        return [
            Finding(name="topics", state=FindingState.WRONG, detail=fault, advice=topic_check.REMEDY) for fault in weak
        ]
    differing = topic_diff.between(wanted, found)
    if differing:
        detail = f"strong enough, and {len(differing)} settings or counts are not as described"
        return [Finding(name="topics", state=FindingState.NOTE, detail=detail, advice=PLAN)]
    return [Finding(name="topics", state=FindingState.OK, detail=f"all {len(wanted)} are as they should be")]


async def _postgres(servers: Servers) -> list[Finding]:
    limits = DatabaseLimits(connections_max=1, acquire_s=WITHIN_S, command_s=WITHIN_S, connect_s=WITHIN_S)
    try:
        database = await Database.open(settings.postgres_address(servers.settings), limits=limits)
    except DatabaseNotUsable as error:
        advice = "correct it on the server: what it acknowledges has to survive a crash"
        return [Finding(name="PostgreSQL", state=FindingState.WRONG, detail=str(error), advice=advice)]
    except (InfrastructureDown, InfrastructureDamaged) as error:
        advice = "start it, or correct ALIPAY_NOTIFY_POSTGRES: address, user and password"
        return [Finding(name="PostgreSQL", state=FindingState.WRONG, detail=str(error), advice=advice)]
    try:
        return await database.read(_described)
    except (InfrastructureDown, InfrastructureDamaged) as error:
        advice = "give this user the rights on the order store's tables"
        return [Finding(name="PostgreSQL", state=FindingState.WRONG, detail=str(error), advice=advice)]
    finally:
        await database.close()


async def _described(connection: SqlConnection) -> list[Finding]:
    version = await connection.fetchval("SELECT current_setting('server_version')")
    kept = "fsync, full_page_writes and synchronous_commit are on"
    here = Finding(name="PostgreSQL", state=FindingState.OK, detail=f"{version} answers; {kept}")
    return [here, _schema(await migrations.applied(connection))]


def _schema(seen: int) -> Finding:
    needed = migrations.steps()[-1].number
    if seen < needed:
        detail = f"at step {seen}, and this program needs {needed}" if seen else "the database is empty"
        return Finding(name="schema", state=FindingState.WRONG, detail=detail, advice="run `alipay-notify db upgrade`")
    ahead = "" if seen == needed else f", ahead of this program ({needed}), which it does not mind"
    return Finding(name="schema", state=FindingState.OK, detail=f"at step {seen}{ahead}")


async def _redis(servers: Servers) -> list[Finding]:
    address = settings.redis_address(servers.settings)
    if address is None:
        detail = "none is named: the workers do without claims, which costs speed and nothing else"
        return [Finding(name="Redis", state=FindingState.OK, detail=detail)]
    client = clients.connect(address)
    try:
        async with asyncio.timeout(WITHIN_S):
            told = await client.eval(_INFO, 0)
    except (RedisError, RedisClusterException, OSError) as error:
        advice = "start it, or correct ALIPAY_NOTIFY_REDIS; meanwhile the workers do without claims, only slower"
        detail = f"{type(error).__name__}: {error}".rstrip(": ")
        return [Finding(name="Redis", state=FindingState.WRONG, detail=detail, advice=advice)]
    finally:
        await client.aclose()
    return [Finding(name="Redis", state=FindingState.OK, detail="answers"), _eviction(told)]


def _eviction(told: bytes | str) -> Finding:
    text = told.decode() if isinstance(told, bytes) else told
    lines = dict(line.partition(":")[::2] for line in text.splitlines())
    policy = lines.get("maxmemory_policy", "unknown")
    if policy == KEEPS_ALL:
        return Finding(name="Redis eviction", state=FindingState.OK, detail=policy)
    advice = f"set maxmemory-policy {KEEPS_ALL}: evicted claims let two workers do the same work"
    return Finding(name="Redis eviction", state=FindingState.NOTE, detail=policy, advice=advice)
