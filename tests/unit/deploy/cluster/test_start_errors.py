"""The cluster engine's start errors include those of every process."""

from deploy import start_errors as common
from deploy.cluster import start_errors
from deploy.cluster.settings import UnreadableFile
from deploy.cluster.topic_check import TooWeak


def test_cluster_refusals_extend_the_common_ones() -> None:
    assert {*common.REFUSALS, UnreadableFile, TooWeak} <= {*start_errors.REFUSALS}
