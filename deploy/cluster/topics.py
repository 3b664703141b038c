"""The specification of the topics, read from `schemas/topics.yaml`, and the shape of a topic found in a cluster.

msgspec decodes the YAML: it creates plain values only and checks them against the shapes declared here.
"""

from collections.abc import Collection, Mapping
from importlib import resources

import msgspec
from msgspec import Struct, structs

import schemas
from schemas import topics

FILE = "topics.yaml"
MIN_IN_SYNC = "min.insync.replicas"
UNCLEAN_ELECTION = "unclean.leader.election.enable"
RETENTION_MS = "retention.ms"
RETENTION_BYTES = "retention.bytes"
CLEANUP = "cleanup.policy"
MESSAGE_BYTES = "max.message.bytes"


class TopicSpec(Struct, frozen=True, kw_only=True):
    """One topic as specified. `logical` is its name in `schemas.topics`, `name` its name in the cluster."""

    logical: str
    name: str
    partitions: int
    replicas: int
    config: Mapping[str, str]
    about: str = ""
    key: str = ""


class Found(Struct, frozen=True, kw_only=True):
    """One topic as found in the cluster.

    `replicas` is the smallest number of any partition. `config` holds the values in force, including broker defaults.
    `under_replicated` is the number of partitions of which a replica is not in sync, and `behind` has the brokers of
    such replicas: they are down, or have not caught up yet.
    """

    partitions: int
    replicas: int
    config: Mapping[str, str]
    under_replicated: int = 0
    behind: tuple[int, ...] = ()


class _Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    about: str
    key: str
    partitions: int
    replicas: int
    config: dict[str, str | int | bool]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    topics: dict[str, _Entry]


def wanted(
    *, prefix: str = topics.PREFIX, only: Collection[str] = topics.ALL, development: bool = False
) -> tuple[TopicSpec, ...]:
    """Return the specified topics with this prefix. For development, one replica is enough.

    Raises:
        ValueError: the prefix is not valid.
    """
    file = msgspec.yaml.decode(resources.files(schemas).joinpath(FILE).read_bytes(), type=_File)
    found = tuple(
        TopicSpec(
            logical=logical,
            name=topics.named(logical, prefix),
            partitions=entry.partitions,
            replicas=entry.replicas,
            config={name: _text(value) for name, value in entry.config.items()},
            about=entry.about,
            key=entry.key,
        )
        for logical, entry in file.topics.items()
        if logical in only
    )
    return tuple(_on_one_broker(topic) for topic in found) if development else found


def _on_one_broker(topic: TopicSpec) -> TopicSpec:
    return structs.replace(topic, replicas=1, config={**topic.config, MIN_IN_SYNC: "1"})


def _text(value: str | int | bool) -> str:
    """Return the value as Kafka writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
