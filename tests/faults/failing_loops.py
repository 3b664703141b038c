"""The program with a bug planted in its worker: `python -m tests.faults.failing_loops up|worker …`.

FAIL_LOOP=sweeper      the loop whose rounds fail
FAIL_ROUNDS=3          only so many rounds fail; without it, each
FAIL_FILE=path         no round fails before this file exists

STAND_AT=read|decide   reading, or deciding, the notifications of one order never returns
STAND_ORDER=123        that order
STAND_FOR_GOOD=1       and cannot be interrupted

END_AT=read|decide|retry   reading, or deciding, or retrying held notifications of one order ends the process
END_ORDER=123              that order
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.cli import main
from schemas import interpret
from workers.consumer import Consumer
from workers.outbox_relay import Relay
from workers.postgres import fatal_records
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
    is_for_good = bool(environment.get("STAND_FOR_GOOD"))
    plant_at(environment["STAND_AT"], environment["STAND_ORDER"], lambda: stand(is_for_good))


def end_process(environment: Mapping[str, str]) -> None:
    """Plant a fault of memory. Processes that have ended are known as such soon, so that a test need not wait."""
    fatal_records.SURELY_ENDED_S = 1
    plant_at(environment["END_AT"], environment["END_ORDER"], os.abort)


def plant_at(step: str, order: str, fault: Callable[[], object]) -> None:
    """Have the fault happen at this step of the order's notifications."""
    if step == "read":
        read = interpret.read

        def read_or_fail(body: bytes, *arguments: Any, **options: Any) -> Any:
            if order.encode() in body:
                fault()
            return read(body, *arguments, **options)

        interpret.read = read_or_fail
    else:
        decide = decision.decide

        def decide_or_fail(parsed_records: Sequence[ParsedRecord], *arguments: Any, **options: Any) -> Any:
            for parsed in parsed_records:
                is_order = parsed.notification is not None and parsed.notification.order == order
                if is_order and (step == "decide" or parsed.held is not None):
                    fault()
            return decide(parsed_records, *arguments, **options)

        decision.decide = decide_or_fail


def stand(is_for_good: bool) -> None:
    while True:
        try:
            while True:
                pass
        except BaseException:
            if not is_for_good:
                raise


if __name__ == "__main__":
    if "END_AT" in os.environ:
        end_process(os.environ)
    else:
        (never_return if "STAND_AT" in os.environ else plant)(os.environ)
    main.main()
