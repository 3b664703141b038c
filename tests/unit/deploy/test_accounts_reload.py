"""Accounts and keys are reloaded as one state: as soon as their files are whole, and never in part."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy import accounts_reload
from deploy.accounts_reload import REST_S, WORK_S, AccountsReloader, ReloadGauges, Turns
from deploy.receipt_keys import ReceiptKeys
from ingest import keys, signature
from schemas.accounts import Account, BadAccounts, SignType
from tests.support import alipay
from tests.support.fakes import MemoryLogger
from tests.support.waiting import until

FAULTY = "accounts not reloaded, the old ones stay in use"
OK = "alipay_notify_accounts_last_reload_successful"
AT = "alipay_notify_accounts_last_reload_success_timestamp_seconds"


def shop(name: str, *keys: str, app: str = "1") -> str:
    files = ", ".join(f'"{key}"' for key in keys)
    return f'[accounts.{name}]\nfamily = "openapi"\nsign_type = "RSA2"\napp_id = "{app}"\nkeys = [{files}]\n'


class FixedClock:
    def __init__(self) -> None:
        self.ms = 1_000

    def epoch_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


class Bench:
    """A reloader on two accounts, with its log and gauges."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "accounts.toml"
        for name in "ab":
            self.key(f"{name}.pem", name)
        self.path.write_text(shop("one", "a.pem") + shop("two", "b.pem"))
        self.reloader = AccountsReloader(self.path)
        self.logger, self.registry, self.clock = MemoryLogger(), CollectorRegistry(), FixedClock()
        self.gauges = ReloadGauges(self.registry, self.clock)

    def key(self, file: str, name: str) -> None:
        (self.directory / file).write_bytes(alipay.pem(alipay.rsa_key(name)))

    async def look(self) -> None:
        self.clock.ms += 1_000
        await self.reloader.look(gauges=self.gauges, logger=self.logger)

    def verifies(self, account: str, name: str) -> bool:
        text = alipay.signature(b"text", alipay.rsa_key(name), "RSA2").encode()
        return signature.signer(b"text", text, self.reloader.in_use.ring(account)) is not None

    @property
    def shown(self) -> list[float | None]:
        return [self.registry.get_sample_value(OK), self.registry.get_sample_value(AT)]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(accounts_reload, "QUIET_S", 0.001)
    return Bench(tmp_path)


async def test_accounts_are_added_changed_and_removed_in_one_step(bench: Bench) -> None:
    in_use = bench.reloader.in_use
    one = in_use.keyed["one"]
    bench.path.write_text(shop("one", "a.pem") + shop("three", "b.pem"))
    await bench.look()
    assert list(in_use) == ["one", "three"]
    assert in_use.keyed["one"] is one, "an unchanged account keeps its ring"
    bench.path.write_text(shop("one", "a.pem", app="2") + shop("three", "b.pem"))
    await bench.look()
    assert in_use["one"].app_id == "2"
    assert bench.logger.lines == [
        ("accounts reloaded", {"added": "three", "removed": "two"}),
        ("accounts reloaded", {"changed": "one"}),
    ]
    assert bench.shown == [1, 3]


async def test_key_is_added_to_an_account_and_taken_out_of_it(bench: Bench) -> None:
    bench.path.write_text(shop("one", "a.pem", "b.pem") + shop("two", "b.pem"))
    await bench.look()
    assert bench.verifies("one", "a")
    assert bench.verifies("one", "b")
    bench.path.write_text(shop("one", "b.pem") + shop("two", "b.pem"))
    await bench.look()
    assert not bench.verifies("one", "a")
    assert bench.verifies("one", "b")


async def test_changed_key_file_is_reloaded_and_the_old_ring_stays_as_it_was(bench: Bench) -> None:
    before = bench.reloader.in_use.ring("one")
    bench.key("a.pem", "c")
    await bench.look()
    assert bench.verifies("one", "c")
    assert not bench.verifies("one", "a")
    assert before is not bench.reloader.in_use.ring("one")
    assert bench.logger.lines == [("accounts reloaded", {"changed": "one"})]


async def test_changed_md5_key_is_reloaded(bench: Bench) -> None:
    account = '[accounts.md5]\nfamily = "mapi"\nsign_type = "MD5"\nseller_id = "2088"\nmd5_key_file = "md5"\n'
    alipay.written(bench.directory, "md5", alipay.MD5_SECRET)
    bench.path.write_text(account)
    await bench.look()
    alipay.written(bench.directory, "md5", b"a-new-secret-of-the-tests-012345")
    await bench.look()
    sign = alipay.signature(b"text", b"a-new-secret-of-the-tests-012345", "MD5").encode()
    assert signature.signer(b"text", sign, bench.reloader.in_use.ring("md5")) is not None
    assert bench.reloader.in_use["md5"].sign_type is SignType.MD5


async def test_unchanged_files_are_not_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the files are read")

    monkeypatch.setattr(accounts_reload, "read_files", refuse)
    await bench.look()
    assert bench.shown == [1, 1]


async def test_replaced_file_of_the_same_size_and_time_is_reloaded(bench: Bench) -> None:
    path = bench.directory / "a.pem"
    stamp = path.stat()
    bench.key("new.pem", "c")
    os.utime(bench.directory / "new.pem", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    (bench.directory / "new.pem").rename(path)
    await bench.look()
    assert bench.verifies("one", "c")


def remove_accounts(bench: Bench) -> None:
    bench.path.unlink()


def empty_accounts(bench: Bench) -> None:
    bench.path.write_text("")


def break_toml(bench: Bench) -> None:
    bench.path.write_text(shop("one", "a.pem") + "[accounts.tw")


def set_wrongly(bench: Bench) -> None:
    bench.path.write_text(shop("one", "a.pem") + shop("two", "b.pem") + "colour = 3\n")


def name_absent_key(bench: Bench) -> None:
    bench.path.write_text(shop("one", "b.pem", "absent.pem"))


def delete_key(bench: Bench) -> None:
    (bench.directory / "b.pem").unlink()


def weaken_key(bench: Bench) -> None:
    (bench.directory / "b.pem").write_bytes(alipay.pem(alipay.rsa_key("weak", bits=1024)))


def halve_key(bench: Bench) -> None:
    (bench.directory / "b.pem").write_bytes(alipay.pem(alipay.rsa_key("b"))[:100])


FAULTS = [remove_accounts, empty_accounts, break_toml, set_wrongly, name_absent_key, delete_key, weaken_key, halve_key]


@pytest.mark.parametrize("spoil", FAULTS)
async def test_faulty_file_keeps_the_old_state_as_a_whole(bench: Bench, spoil: Callable[[Bench], None]) -> None:
    """A good key of another account is not taken either, until all files are good again."""
    before = bench.reloader.in_use.keyed
    bench.key("a.pem", "c")
    spoil(bench)
    for _ in range(3):
        await bench.look()
    assert bench.reloader.in_use.keyed is before
    assert bench.verifies("one", "a")
    assert bench.verifies("two", "b")
    assert bench.reloader.trouble == "the old accounts and keys stay in use: " + "; ".join(bench.reloader.faults)
    assert [event for event, _ in bench.logger.lines] == [FAULTY], "logged once"
    assert bench.shown == [0, 1]
    bench.key("b.pem", "b")
    bench.path.write_text(shop("one", "a.pem") + shop("two", "b.pem"))
    await bench.look()
    assert bench.verifies("one", "c")
    assert bench.reloader.trouble == ""
    assert bench.shown == [1, 5]
    assert bench.logger.lines[1][0] == "accounts reloaded, all files are valid again"


async def test_every_fault_is_reported_and_a_new_one_is_logged(bench: Bench) -> None:
    bench.path.write_text(shop("one", "x.pem") + shop("two", "y.pem"))
    await bench.look()
    assert bench.reloader.faults == ["account one: x.pem does not exist", "account two: y.pem does not exist"]
    bench.path.write_text(shop("one", "x.pem"))
    await bench.look()
    assert [fields["error"] for _, fields in bench.logger.lines] == [
        "account one: x.pem does not exist; account two: y.pem does not exist",
        "account one: x.pem does not exist",
    ]


async def test_restored_files_end_the_faults_without_another_change(bench: Bench) -> None:
    content, stamp = bench.path.read_bytes(), bench.path.stat()
    bench.path.write_bytes(b"?" * len(content))
    await bench.look()
    assert bench.reloader.faults
    bench.path.write_bytes(content)
    os.utime(bench.path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    await bench.look()
    assert list(bench.reloader.in_use) == ["one", "two"]
    assert bench.reloader.trouble == ""


async def test_file_that_is_still_written_is_not_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first half is valid, and lacks the second account."""
    monkeypatch.setattr(accounts_reload, "QUIET_S", 0.05)
    seen = [set(bench.reloader.in_use)]
    bench.reloader.in_use.watch(lambda _: seen.append(set(bench.reloader.in_use)))
    with bench.path.open("w") as opened:
        opened.write(shop("one", "a.pem", app="2"))
        opened.flush()
        looking = asyncio.create_task(bench.look())
        for part in ("\n", "\n", shop("two", "b.pem")):
            await asyncio.sleep(0.03)
            opened.write(part)
            opened.flush()
    await looking
    assert bench.reloader.in_use["one"].app_id == "2"
    assert all(names == {"one", "two"} for names in seen)


async def test_file_that_changes_while_all_are_read_is_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_files = accounts_reload.read_files

    def read_slowly(path: Path, before: accounts_reload.LoadedFiles) -> accounts_reload.LoadedFiles:
        loaded = read_files(path, before)
        monkeypatch.setattr(accounts_reload, "read_files", read_files)
        bench.path.write_text(shop("three", "b.pem"))
        return loaded

    monkeypatch.setattr(accounts_reload, "read_files", read_slowly)
    bench.path.write_text(shop("one", "a.pem"))
    await bench.look()
    assert list(bench.reloader.in_use) == ["one", "two"]
    await bench.look()
    assert list(bench.reloader.in_use) == ["three"]


async def test_swap_of_a_linked_directory_changes_all_files_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes mounts a secret: each file is a link through `..data`, which a rename replaces."""
    monkeypatch.setattr(accounts_reload, "QUIET_S", 0.001)
    old, mounted = tmp_path / "..2026_1", tmp_path / "mounted"
    old.mkdir()
    mounted.mkdir()
    bench = Bench(old)
    (mounted / "..data").symlink_to(old)
    for file in ("accounts.toml", "a.pem", "b.pem", "c.pem"):
        (mounted / file).symlink_to(Path("..data") / file)
    bench.reloader = AccountsReloader(mounted / "accounts.toml")
    new = tmp_path / "..2026_2"
    new.mkdir()
    for file, name in (("a.pem", "a2"), ("c.pem", "c")):
        (new / file).write_bytes(alipay.pem(alipay.rsa_key(name)))
    (new / "accounts.toml").write_text(shop("one", "a.pem") + shop("three", "c.pem"))
    (mounted / "..data_tmp").symlink_to(new)
    (mounted / "..data_tmp").rename(mounted / "..data")
    await bench.look()
    assert list(bench.reloader.in_use) == ["one", "three"]
    assert bench.verifies("one", "a2")
    assert bench.verifies("three", "c")


async def test_library_that_fails_keeps_the_old_state(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(keys, "load", fail)
    bench.key("a.pem", "c")
    await bench.look()
    assert bench.reloader.faults == [f"{bench.path} or a key file cannot be loaded: RuntimeError"]
    assert list(bench.reloader.in_use) == ["one", "two"]


def test_first_load_refuses_faulty_files(bench: Bench) -> None:
    bench.path.write_text(shop("one", "absent.pem"))
    with pytest.raises(BadAccounts):
        AccountsReloader(bench.path)


async def test_sighup_reloads_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    bench.reloader.hurry_at_sighup()
    running = bench.reloader.run(gauges=bench.gauges, logger=bench.logger, interval_s=3600)
    task = asyncio.create_task(running)
    try:
        bench.path.write_text(shop("three", "b.pem"))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: list(bench.reloader.in_use) == ["three"])
    finally:
        task.cancel()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


async def test_log_line_names_at_most_fifty_accounts(bench: Bench) -> None:
    bench.path.write_text("".join(shop(f"n{number:02}", "a.pem") for number in range(60)))
    await bench.look()
    added = bench.logger.lines[0][1]["added"]
    assert added.startswith("n00, n01")
    assert added.endswith("n49, …")


async def test_one_new_key_among_many_accounts_is_the_only_one_that_is_loaded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.path.write_text("".join(shop(f"n{number}", f"{number}.pem") for number in range(50)))
    for number in range(50):
        bench.key(f"{number}.pem", "a")
    await bench.look()
    before, load, loaded = dict(bench.reloader.in_use.keyed), keys.load, []

    def note(account: Account, directory: Path) -> keys.KeyRing:
        loaded.append(account.name)
        return load(account, directory)

    monkeypatch.setattr(keys, "load", note)
    bench.key("7.pem", "b")
    await bench.look()
    assert loaded == ["n7"]
    assert bench.verifies("n7", "b")
    same = [name for name, keyed in bench.reloader.in_use.keyed.items() if keyed is before[name]]
    assert len(same) == 49


def test_thread_that_reads_rests_after_each_millisecond_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rests = 10.0, []

    def rest(seconds: float) -> None:
        nonlocal now
        rests.append(seconds)
        now += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(time, "sleep", rest)
    turns = Turns()
    for _ in range(10):
        now += WORK_S * 0.3
        turns()
    assert rests == [REST_S] * 2, "in ten pieces of 0.3 ms"


async def test_requests_are_served_while_all_keys_are_loaded(bench: Bench) -> None:
    turns = 0

    async def serve() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    bench.path.write_text("".join(shop(f"n{number}", "a.pem") for number in range(500)))
    serving = asyncio.create_task(serve())
    await bench.look()
    serving.cancel()
    assert len(bench.reloader.in_use) == 500
    assert turns > 500


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    task = asyncio.create_task(bench.reloader.run(gauges=bench.gauges, logger=bench.logger, interval_s=3600))
    await asyncio.sleep(0)
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_record_that_needs_a_new_key_has_the_files_read_at_once(bench: Bench) -> None:
    async with running(bench):
        bench.path.write_text(shop("one", "a.pem", "b.pem") + shop("two", "b.pem"))
        await bench.reloader.look_soon()
        assert bench.verifies("one", "b")
        assert bench.reloader.version == 1


async def test_many_records_cause_one_look(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    async def look(**_: object) -> None:
        looks.append(1)

    monkeypatch.setattr(bench.reloader, "look", look)
    async with running(bench):
        await asyncio.gather(*(bench.reloader.look_soon() for _ in range(5)))
        await bench.reloader.look_soon()
        assert len(looks) == 1
        monkeypatch.setattr(bench.reloader, "_soon_again_s", 0.0)
        await bench.reloader.look_soon()
        assert len(looks) == 2


async def test_look_that_takes_long_keeps_no_record_waiting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(**_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(bench.reloader, "look", look)
    monkeypatch.setattr(accounts_reload, "SOON_S_MAX", 0.01)
    async with running(bench):
        await bench.reloader.look_soon()


async def test_look_is_not_awaited_where_nothing_reloads_or_after_the_end(bench: Bench) -> None:
    await bench.reloader.look_soon()
    async with running(bench):
        pass
    await bench.reloader.look_soon()
    assert bench.reloader.version == 0


async def test_end_of_the_reloads_ends_the_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(**_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(bench.reloader, "look", look)
    monkeypatch.setattr(accounts_reload, "SOON_S_MAX", 3600)
    async with running(bench):
        waiting = asyncio.create_task(bench.reloader.look_soon())
        await asyncio.sleep(0.01)
        late = asyncio.create_task(bench.reloader.look_soon())
        await asyncio.sleep(0.01)
    await asyncio.gather(waiting, late)


def with_receipt_keys(bench: Bench, *lines: bytes) -> ReceiptKeys:
    """Give the bench a file of receipt keys; each of its lines is one key."""
    path = bench.directory / "receipt-keys"
    path.write_bytes(b"\n".join(lines))

    def read() -> tuple[bytes, ...]:
        found = tuple(path.read_bytes().split(b"\n"))
        if found == (b"bad",):
            raise BadAccounts(["the receipt key is short"])
        return found

    bench.reloader = AccountsReloader(bench.path, ReceiptKeys(path, read))
    return bench.reloader.receipt_keys


async def test_receipt_keys_are_reloaded_and_wake_those_that_wait_for_them(bench: Bench) -> None:
    keys_, woken = with_receipt_keys(bench, b"old"), []
    keys_.watch(lambda: woken.append(tuple(keys_)))
    await bench.look()
    assert woken == []
    (bench.directory / "receipt-keys").write_bytes(b"new\nold")
    await bench.look()
    assert list(keys_) == [b"new", b"old"]
    assert woken == [(b"new", b"old")]
    assert bench.reloader.version == 1
    assert bench.logger.lines[-1] == ("receipt keys reloaded", {})


async def test_faulty_receipt_keys_keep_the_old_ones_and_the_accounts(bench: Bench) -> None:
    keys_ = with_receipt_keys(bench, b"old")
    (bench.directory / "receipt-keys").write_bytes(b"bad")
    bench.path.write_text(shop("three", "b.pem"))
    await bench.look()
    assert list(keys_) == [b"old"]
    assert list(bench.reloader.in_use) == ["one", "two"]
    assert bench.reloader.faults == ["the receipt key is short"]
