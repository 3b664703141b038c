"""Words: each metric and label is named once, and the project speaks of itself alone."""

import re
import subprocess

from schemas import telemetry
from tests.support.paths import ROOT


def test_every_metric_family_is_named_once_and_in_the_house_style() -> None:
    names = [family.name for family in telemetry.CATALOGUE]
    assert len(set(names)) == len(names)
    for family in telemetry.CATALOGUE:
        assert re.fullmatch(r"(alipay_notify|http_server)_[a-z_]+", family.name)
        assert family.help.endswith(".")
        assert (family.kind == "histogram") == bool(family.buckets)
        assert not set(family.labels) & {"order", "out_trade_no", "trade_no", "notify_id", "buyer_id"}


def test_no_file_names_a_machine_path_or_a_package_registry() -> None:
    tracked = subprocess.run(
        ["git", "-C", ROOT, "grep", "-InE", r"/work/|/tmp/venv|pypi\.org|npmjs|index-url [a-z]", "--", "."],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert [line for line in tracked.splitlines() if not line.startswith("tests/house/")] == []
