"""The present release keeps the contract of the one before: against the frozen description, and the rule itself."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from schemas import record_format
from tests.support import frozen_release, revisions
from tests.support.frozen_release import FrozenRelease, FrozenTopic
from tests.support.paths import ROOT

TOPIC = FrozenTopic(key="account:out_trade_no", partitions=12, cleanup="delete")
BEFORE = FrozenRelease(
    revision="",
    record_format=2,
    topics={"payments.order.event.v1": TOPIC},
    settings=("ALIPAY_NOTIFY_KAFKA", "ALIPAY_NOTIFY_REDIS"),
    metrics=("alipay_notify_received_total",),
    operations=("GET /api/held", "POST /api/held/tasks"),
    steps={"postgresql": {"0001_orders": "ab", "0002_numbers": "cd"}},
)


def test_present_release_keeps_the_contract_of_the_one_before() -> None:
    """What has to go is announced by one release, and goes with the next: then the description is frozen anew."""
    before = frozen_release.frozen()
    assert frozen_release.losses(before, frozen_release.of_tree(ROOT, "")) == []
    assert before.record_format in record_format.VERSIONS_READ


def test_description_names_only_what_its_revision_has(tmp_path: Path) -> None:
    frozen = frozen_release.frozen()
    if not revisions.is_here(frozen.revision):
        pytest.skip("NOT TESTED: this clone has no history, so the revision of the release before is not in it")
    revisions.unpack(frozen.revision, tmp_path)
    assert frozen_release.losses(frozen, frozen_release.of_tree(tmp_path, frozen.revision)) == []


def test_description_has_something_of_everything() -> None:
    """Each kind is read by a pattern, and one that finds nothing would hold nothing."""
    frozen = frozen_release.frozen()
    assert len(frozen.revision) == 40
    assert len(frozen.topics) >= 5
    assert min(len(frozen.settings), len(frozen.metrics), len(frozen.operations)) > 25
    assert {name: bool(steps) for name, steps in frozen.steps.items()} == dict.fromkeys(frozen_release.STEPS, True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"record_format": 1}, "record format 2 is no longer read"),
        ({"topics": {}}, "topic payments.order.event.v1 is gone"),
        (
            {"topics": {"payments.order.event.v1": structs.replace(TOPIC, partitions=24)}},
            "topic payments.order.event.v1: key, partitions or cleanup have changed",
        ),
        ({"settings": BEFORE.settings[:1]}, "settings: ALIPAY_NOTIFY_REDIS is gone"),
        ({"metrics": ()}, "metrics: alipay_notify_received_total is gone"),
        ({"operations": BEFORE.operations[1:]}, "operations: GET /api/held is gone"),
        (
            {"steps": {"postgresql": {"0001_orders": "ab", "0002_numbers": "ef"}}},
            "postgresql: step 0002_numbers is applied at installations, and has changed or is gone",
        ),
        (
            {"steps": {"postgresql": {"0002_numbers": "cd"}}},
            "postgresql: step 0001_orders is applied at installations, and has changed or is gone",
        ),
    ],
)
def test_loss_is_reported(change: dict[str, Any], told: str) -> None:
    assert frozen_release.losses(BEFORE, structs.replace(BEFORE, **change)) == [told]


def test_additions_are_none() -> None:
    now = structs.replace(
        BEFORE,
        record_format=3,
        topics={**BEFORE.topics, "payments.more.v1": TOPIC},
        settings=(*BEFORE.settings, "ALIPAY_NOTIFY_MORE"),
        steps={"postgresql": {**BEFORE.steps["postgresql"], "0003_more": "12"}, "another": {}},
    )
    assert frozen_release.losses(BEFORE, now) == []
