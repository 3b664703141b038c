"""The program with a bug planted in one loop of its worker: `python -m tests.faults.failing_loops up|worker …`.

FAIL_LOOP=sweeper      the loop whose rounds fail
FAIL_ROUNDS=3          only so many rounds fail; without it, each
FAIL_FILE=path         no round fails before this file exists
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.cli import main
from workers.consumer import Consumer
from workers.outbox_relay import Relay
from workers.replays import Replayer
from workers.sweeper import Sweeper

LOOPS: dict[str, Any] = {"consumer": Consumer, "sweeper": Sweeper, "replayer": Replayer, "relay": Relay}


def plant(environment: Mapping[str, str]) -> None:
    """Plant the bug that the environment asks for."""
    loop = LOOPS[environment["FAIL_LOOP"]]
    left = float(environment.get("FAIL_ROUNDS", "inf"))
    begin = Path(environment["FAIL_FILE"]) if environment.get("FAIL_FILE") else None
    run_once = loop.run_once

    async def fail(self: Any) -> Any:
        nonlocal left
        if left > 0 and (begin is None or begin.exists()):
            left -= 1
            raise KeyError("planted")
        return await run_once(self)

    loop.run_once = fail


if __name__ == "__main__":
    plant(os.environ)
    main.main()
