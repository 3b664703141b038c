"""Metrics and log lines of the consumer group; implements `workers.kafka.source.SourceObserver`.

No guarantee depends on them.
"""

from prometheus_client import CollectorRegistry

from schemas import telemetry
from schemas.telemetry import Field
from workers.kafka.source import ReplaceReason
from workers.log_lines import Logger
from workers.metrics import counter


class GroupTelemetry:
    """A counter and a log line for each event. The events are rare, and each explains a pause."""

    def __init__(self, registry: CollectorRegistry, *, group: str, logger: Logger) -> None:
        self._logger = logger
        self._rebalances = counter(telemetry.REBALANCES, registry).labels(group)
        rebuilds = counter(telemetry.CONSUMER_REBUILDS, registry)
        self._rebuilds = {reason: rebuilds.labels(reason.value) for reason in ReplaceReason}
        self._dropped = counter(telemetry.COMMITS_DROPPED, registry)
        self._rewound = counter(telemetry.PARTITIONS_REWOUND, registry)

    def rebalanced(self, partitions: int) -> None:
        self._rebalances.inc()
        self._logger.info("partitions assigned", **{Field.COUNT: partitions})

    def rebuilt(self, reason: ReplaceReason, why: str) -> None:
        self._rebuilds[reason].inc()
        self._logger.warning("consumer group member replaced", **{Field.REASON: reason.value, Field.ERROR: why})

    def commit_dropped(self, why: str) -> None:
        self._dropped.inc()
        self._logger.info("offset commit dropped, the batch is redelivered", **{Field.ERROR: why})

    def rewound(self, partition: int, *, committed: int, to: int) -> None:
        self._rewound.inc()
        self._logger.warning(
            "the order store is behind the committed offset: the log is read again",
            **{Field.PARTITION: partition, Field.OFFSET: to, Field.COUNT: committed - to},
        )
