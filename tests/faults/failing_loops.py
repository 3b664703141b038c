"""The program with a bug planted in its worker: `python -m tests.faults.failing_loops up|worker …`.

FAIL_LOOP=sweeper      the loop whose rounds fail
FAIL_ROUNDS=3          only so many rounds fail; without it, each
FAIL_FILE=path         no round fails before this file exists

STAND_AT=read|decide   reading, or deciding, the notifications of one order never returns
STAND_ORDER=123        that order
STAND_FOR_GOOD=1       and cannot be interrupted
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.cli import main
from schemas import interpret
from workers.consumer import Consumer
from workers.outbox_relay import Relay
from workers.replays import Replayer
from workers.settlement import decision
from workers.settlement.plan import ParsedRecord
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


def never_return(environment: Mapping[str, str]) -> None:
    """Plant a computation that does not end."""
    order, is_for_good = environment["STAND_ORDER"], bool(environment.get("STAND_FOR_GOOD"))
    if environment["STAND_AT"] == "read":
        read = interpret.read

        def read_or_stand(body: bytes, *arguments: Any, **options: Any) -> Any:
            if order.encode() in body:
                stand(is_for_good)
            return read(body, *arguments, **options)

        interpret.read = read_or_stand
    else:
        decide = decision.decide

        def decide_or_stand(parsed_records: Sequence[ParsedRecord], *arguments: Any, **options: Any) -> Any:
            found = (parsed.notification for parsed in parsed_records)
            if any(notification is not None and notification.order == order for notification in found):
                stand(is_for_good)
            return decide(parsed_records, *arguments, **options)

        decision.decide = decide_or_stand


def stand(is_for_good: bool) -> None:
    while True:
        try:
            while True:
                pass
        except BaseException:
            if not is_for_good:
                raise


if __name__ == "__main__":
    (never_return if "STAND_AT" in os.environ else plant)(os.environ)
    main.main()
