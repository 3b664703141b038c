"""What commands that look at the cluster are told: the environment of its processes, with the options above it.

They need no accounts, so that whoever sets up topics and tables may do without those.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from deploy.cli import exits, starting

if TYPE_CHECKING:
    from deploy.cluster.settings import ClusterSettings

ACCOUNTS = "ALIPAY_NOTIFY_ACCOUNTS"


def told(**given: Any) -> ClusterSettings:
    """The settings; every fault in them ends the command."""
    from deploy.cluster import settings
    from ingest.settings import BadSettings

    try:
        return settings.load({ACCOUNTS: "accounts.toml", **os.environ}, **given)
    except BadSettings as bad:
        starting.refuse("cannot do that as told", bad.faults, exits.WRONG_USAGE)
