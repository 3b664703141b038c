"""What one record costs the worker before any store: microseconds to read it, with and without its signature, and to
decide it in batches of 500.

    python -m tests.benchmarks.decide_rate [--records 5000] [--profile]

The best of several rounds is shown: the cost of the code without disturbance by the machine.
"""

import argparse
import base64
import cProfile
import json
import pstats
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ingest import authenticate, keys
from ingest.keys import KeyRing
from schemas import accounts_toml, record_format
from schemas.accounts import Account
from schemas.record_format import Record, RecordContents
from tests.support.fakes import MemoryTopics, PlanObserver
from tests.support.stores import MemoryStore
from workers.processing import Processing
from workers.settlement import decision, loading
from workers.settlement.plan import LogRecord, ParsedRecord, Position, WritePlan

BATCH = 500
ROUNDS = 5
NOW_MS = 1_760_000_000_000


def account() -> Account:
    table = {"family": "openapi", "sign_type": "RSA2", "keys": ["alipay.pem"], "app_id": "2021000000000001"}
    return accounts_toml.parse({"accounts": {"shop": table}})["shop"]


class Sender:
    """Signs forms of about 1 KiB as the Open Platform does."""

    def __init__(self, account: Account, directory: Path) -> None:
        self._account = account
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (directory / "alipay.pem").write_bytes(pem)

    def record(self, number: int, status: str) -> Record:
        fields = {
            "app_id": "2021000000000001",
            "notify_id": f"2025060200222{number:021}{status[-1]}",
            "notify_type": "trade_status_sync",
            "notify_time": "2025-06-02 08:09:11",
            "charset": "utf-8",
            "version": "1.0",
            "trade_no": f"20250601220014999905{number:08}",
            "out_trade_no": f"ORDER-{number:08}",
            "trade_status": status,
            "total_amount": "240.00",
            "receipt_amount": "240.00",
            "buyer_pay_amount": "240.00",
            "subject": "维港游船 Harbour cruise",
            "buyer_id": "2088000000002034",
            "buyer_logon_id": "do***@example.com",
            "seller_email": "payee@merchant.example",
            "gmt_create": "2025-06-01 19:59:40",
            "gmt_payment": "2025-06-01 20:00:01",
            "fund_bill_list": '[{"amount":"240.00","fundChannel":"ALIPAYACCOUNT"}]',
        }
        text = "&".join(f"{name}={value}" for name, value in sorted(fields.items())).encode()
        sign = base64.b64encode(self._key.sign(text, padding.PKCS1v15(), hashes.SHA256())).decode()
        sealed = RecordContents(
            account=self._account.name,
            family=self._account.family.value,
            received_at_ms=NOW_MS,
            path=b"/notify/shop",
            content_type=b"application/x-www-form-urlencoded",
            key_id="alipay.pem",
            confirmed=False,
            body=urlencode(fields | {"sign": sign, "sign_type": "RSA2"}).encode(),
        )
        return record_format.encode(sealed, fields["out_trade_no"])


class Bench:
    """The account's processing over a store in memory, and the time that things take in it."""

    def __init__(self, account: Account, ring: KeyRing | None) -> None:
        self.accounts = {account.name: account}
        self._ring = ring
        self.store = MemoryStore()
        self.processing = Processing(
            accounts=self.accounts,
            authenticate=self._authenticate,
            store=self.store,
            events=MemoryTopics(),
            observer=PlanObserver(),
            now_ms=lambda: NOW_MS,
        )

    def _authenticate(self, sealed: RecordContents, account: Account, *, anew: bool = False) -> bool:
        if self._ring is not None:
            authenticate.recheck(sealed, account, self._ring)
        return sealed.confirmed

    def read(self, records: Sequence[Record], *, first: int = 0) -> tuple[list[ParsedRecord], float]:
        logged = [LogRecord(Position(0, first + offset), record) for offset, record in enumerate(records)]
        started = time.perf_counter()
        readings = [self.processing.read(one, now_ms=0) for one in logged]
        elapsed = time.perf_counter() - started
        assert all(reading.notification is not None for reading in readings)
        return readings, elapsed

    def decide(self, readings: Sequence[ParsedRecord]) -> float:
        """The seconds that deciding takes, without the store's own work."""
        elapsed = 0.0
        for start in range(0, len(readings), BATCH):
            batch = readings[start : start + BATCH]
            began = time.perf_counter()
            needs = loading.load_request(batch)
            elapsed += time.perf_counter() - began
            known = self.store.known(needs)
            began = time.perf_counter()
            plan = decision.decide(batch, known, self.accounts, now_ms=NOW_MS, chance=lambda: 0.5)
            elapsed += time.perf_counter() - began
            self.store.settle_now(needs, lambda _, plan=plan: plan)  # type: ignore[misc]
            assert _all_decided(plan, batch)
        return elapsed


def _all_decided(plan: WritePlan, batch: Sequence[ParsedRecord]) -> bool:
    return len(plan.deliveries) == len(batch)


def measure(records: int) -> dict[str, float]:
    """Microseconds per record of each step."""
    with tempfile.TemporaryDirectory() as directory:
        shop = account()
        sender = Sender(shop, Path(directory))
        ring = keys.load(shop, Path(directory))
    paid = [sender.record(number, "TRADE_SUCCESS") for number in range(records)]
    finished = [sender.record(number, "TRADE_FINISHED") for number in range(records)]
    best: dict[str, float] = {}

    def keep(step: str, seconds: float) -> None:
        best[step] = min(best.get(step, 1e9), seconds / records * 1e6)

    for _ in range(ROUNDS):
        bench = Bench(shop, ring=None)
        readings, seconds = bench.read(paid)
        keep("read, signature not checked", seconds)
        keep("read, signature checked", Bench(shop, ring).read(paid)[1])
        keep("decide, first news of an order", bench.decide(readings))
        keep("decide, second news", bench.decide(bench.read(finished, first=records)[0]))
        keep("decide, duplicates", bench.decide(bench.read(finished, first=2 * records)[0]))
    return {step: round(micros, 2) for step, micros in best.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=5000)
    options.add_argument("--profile", action="store_true")
    chosen = options.parse_args()
    job: Callable[[], dict[str, float]] = lambda: measure(chosen.records)  # noqa: E731
    if not chosen.profile:
        print(json.dumps({"us_per_record": job()}, indent=2))
        return
    profile = cProfile.Profile()
    profile.runcall(job)
    pstats.Stats(profile).sort_stats("tottime").print_stats(35)


if __name__ == "__main__":
    main()
