"""The states of the workers' group, and a group that cannot be described."""

import pytest

from deploy.cluster import group_check
from deploy.cluster.group_check import WorkerGroup
from deploy.doctor import FindingState


@pytest.mark.parametrize(
    ("state", "members", "finding", "detail"),
    [
        ("Stable", 1, FindingState.OK, "g has 1 worker, and is stable"),
        ("Stable", 3, FindingState.OK, "g has 3 workers, and is stable"),
        ("PreparingRebalance", 2, FindingState.NOTE, "anew among 2 workers (PreparingRebalance)"),
        ("Empty", 0, FindingState.WRONG, "g has no worker"),
        ("Dead", 0, FindingState.WRONG, "g has no worker"),
    ],
)
def test_state_of_the_group_is_said(state: str, members: int, finding: FindingState, detail: str) -> None:
    found = group_check.finding("g", WorkerGroup(state=state, members=members))
    assert (found.state, detail in found.detail) == (finding, True)
    assert bool(found.advice) == (finding is not FindingState.OK)


async def test_group_that_cannot_be_described_is_a_note() -> None:
    found = await group_check.examine({"bootstrap_servers": "127.0.0.1:1"}, "g", within_s=5)
    assert (found.state, "could not be described" in found.detail) == (FindingState.NOTE, True)
