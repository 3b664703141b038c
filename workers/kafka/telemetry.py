"""What a worker of a cluster counts and logs of its consumer group; it implements `workers.kafka.source.SourceWatch`.

Nothing depends on what is counted.
"""

from prometheus_client import CollectorRegistry

from schemas import telemetry
from schemas.telemetry import Field
from workers.kafka.source import ReplaceReason
from workers.log_lines import Logger
from workers.metrics import counter


class GroupTelemetry:
    """Counters, and a line for each event: none of them is frequent, and each explains a pause."""

    def __init__(self, registry: CollectorRegistry, *, group: str, logger: Logger) -> None:
        self._logger = logger
        self._rebalances = counter(telemetry.REBALANCES, registry).labels(group)
        rebuilds = counter(telemetry.CONSUMER_REBUILDS, registry)
        self._rebuilds = {reason: rebuilds.labels(reason.value) for reason in ReplaceReason}
        self._dropped = counter(telemetry.COMMITS_DROPPED, registry)
        self._rewound = counter(telemetry.PARTITIONS_REWOUND, registry)

    def rebalanced(self, partitions: int) -> None:
        self._rebalances.inc()
        self._logger.info("partitions given", **{Field.COUNT: partitions})

    def rebuilt(self, reason: ReplaceReason, why: str) -> None:
        self._rebuilds[reason].inc()
        self._logger.warning("member of the group replaced", **{Field.REASON: reason.value, Field.ERROR: why})

    def commit_dropped(self, why: str) -> None:
        self._dropped.inc()
        self._logger.info("commit dropped, the batch comes again", **{Field.ERROR: why})

    def rewound(self, partition: int, *, committed: int, to: int) -> None:
        self._rewound.inc()
        self._logger.warning(
            "the store is older than the group: the log is read again",
            **{Field.PARTITION: partition, Field.OFFSET: to, Field.COUNT: committed - to},
        )
