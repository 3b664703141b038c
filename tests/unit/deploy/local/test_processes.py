"""A server process from its start to its end, by itself, by a stop or by a kill."""

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest

from deploy.local import leftovers, processes
from deploy.local.processes import DidNotStart, Process
from tests.unit.deploy.local import samples


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


def process(path: Path, code: str = samples.SLEEPS, *, healthy: object = yes, **times: float) -> Process:
    return Process(samples.directory(path), samples.spec(code, **times), healthy=healthy)  # type: ignore[arg-type]


def is_there(pid: int) -> bool:
    return leftovers.born(pid) is not None


def state(pid: int) -> str:
    return "T" if psutil.Process(pid).status() == psutil.STATUS_STOPPED else ""


async def test_process_runs_only_inside_the_context(tmp_path: Path) -> None:
    started = process(tmp_path)
    async with started.running():
        assert started.code is None
        assert is_there(started.pid)
    assert not started.runs
    assert not is_there(started.pid)


async def test_start_waits_until_the_process_is_healthy(tmp_path: Path) -> None:
    written = tmp_path / "written"
    code = f"import time; time.sleep(0.2); open({str(written)!r}, 'w').close(); time.sleep(600)"

    async def healthy() -> bool:
        return written.exists()

    async with process(tmp_path, code, healthy=healthy).running():
        assert written.exists()


async def test_error_of_an_early_end_shows_the_end_of_the_log(tmp_path: Path) -> None:
    started = process(tmp_path, "import sys; print('no such file'); sys.exit(7)", healthy=no)
    with pytest.raises(DidNotStart, match=r"it ended with 7 before it was healthy(?s:.)*no such file"):
        await started.start()


async def test_process_that_is_not_healthy_in_time_is_killed(tmp_path: Path) -> None:
    started = process(tmp_path, healthy=no, ready_within_s=0.2)
    with pytest.raises(DidNotStart, match="was not healthy after"):
        await started.start()
    assert not started.runs


async def test_error_shows_the_log_of_the_last_start_only(tmp_path: Path) -> None:
    first = process(tmp_path, "print('the first')", healthy=no)
    with pytest.raises(DidNotStart, match="the first"):
        await first.start()
    second = process(tmp_path, "raise SystemExit(1)", healthy=no)
    with pytest.raises(DidNotStart) as caught:
        await second.start()
    assert "the first" not in str(caught.value)
    assert "the first" in (tmp_path / "log" / "it.log").read_text()


async def test_process_that_ignores_the_stop_signal_is_killed(tmp_path: Path) -> None:
    started = process(tmp_path, samples.STUBBORN, stop_within_s=0.2)

    async def up() -> bool:
        return "up" in started.output()

    await started.start()
    await started.until(up)
    await started.stop()
    assert started.code == -9


async def test_process_that_stops_at_once_is_not_waited_for(tmp_path: Path) -> None:
    started = process(tmp_path)
    await started.start()
    before = time.monotonic()
    await started.stop()
    assert started.code == -15
    assert time.monotonic() - before < 2


async def test_killed_process_can_be_started_again(tmp_path: Path) -> None:
    started = process(tmp_path)
    async with started.running():
        first = started.pid
        await started.kill()
        assert not is_there(first)
        await started.start()
        assert started.runs
        assert started.pid != first


async def test_frozen_process_can_be_stopped(tmp_path: Path) -> None:
    started = process(tmp_path)
    async with started.running():
        started.freeze()
    assert started.code == -15


async def test_kill_ends_the_children_too(tmp_path: Path) -> None:
    child = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {samples.SLEEPS!r}]); "
    started = process(tmp_path, child + "print(p.pid, flush=True); p.wait()")

    async def up() -> bool:
        return bool(started.output().strip())

    await started.start()
    await started.until(up)
    grandchild = int(started.output())
    assert is_there(grandchild)
    await started.kill()
    while is_there(grandchild):
        await asyncio.sleep(0.01)


async def test_freeze_and_kill_reach_children_that_left_the_group(tmp_path: Path) -> None:
    """PostgreSQL's children leave their parent's process group."""
    child = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'], "
    )
    started = process(tmp_path, child + "start_new_session=True); print(p.pid, flush=True); p.wait()")

    async def up() -> bool:
        return bool(started.output().strip())

    await started.start()
    await started.until(up)
    grandchild = int(started.output())
    started.freeze()
    while (state(started.pid), state(grandchild)) != ("T", "T"):
        await asyncio.sleep(0.01)
    started.thaw()
    while "T" in (state(started.pid), state(grandchild)):
        await asyncio.sleep(0.01)
    await started.kill()
    while is_there(grandchild):
        await asyncio.sleep(0.01)


async def test_cancelled_start_leaves_nothing_running(tmp_path: Path) -> None:
    started = process(tmp_path, healthy=no)

    async def use() -> None:
        async with started.running():
            raise AssertionError("it never was healthy")

    task = asyncio.create_task(use())
    while not started.runs:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not started.runs


async def test_cancelled_stop_leaves_nothing_running(tmp_path: Path) -> None:
    started = process(tmp_path, samples.STUBBORN)

    async def up() -> bool:
        return "up" in started.output()

    await started.start()
    await started.until(up)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await started.stop()
    assert started.code == -9


async def test_process_is_marked_while_it_runs(tmp_path: Path) -> None:
    started = process(tmp_path)
    async with started.running():
        mark = leftovers.read(tmp_path / "run" / "it.json")
        assert mark is not None
        assert mark.pid == started.pid
        assert leftovers.is_alive(mark)
    assert not (tmp_path / "run" / "it.json").exists()


async def test_process_gets_only_the_environment_of_its_spec(tmp_path: Path) -> None:
    os.environ["SEEN_BY_US"] = "yes"
    try:
        await processes.finish(
            samples.directory(tmp_path), samples.spec("import os; assert 'SEEN_BY_US' not in os.environ")
        )
    finally:
        del os.environ["SEEN_BY_US"]


async def test_failed_program_is_reported_with_its_output(tmp_path: Path) -> None:
    with pytest.raises(DidNotStart, match=r"failed with 3(?s:.)*why"):
        await processes.finish(samples.directory(tmp_path), samples.spec("print('why'); raise SystemExit(3)"))


async def test_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with pytest.raises(DidNotStart, match="did not end within"):
        await processes.finish(samples.directory(tmp_path), samples.spec(samples.SLEEPS, ready_within_s=0.2))
    assert list((tmp_path / "run").iterdir()) == []
