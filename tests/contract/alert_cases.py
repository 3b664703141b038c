"""What each alert is tried with: series that make it fire, that leave it silent, and after which it clears.

The values are promtool's: `0+5x60` begins with 0 and adds 5 at each of 60 steps. Steps are minutes unless a case says
otherwise. Time begins with 0, so timestamps are small numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Labels = Mapping[str, str]
Series = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Series, and the alerts that fire at some moments: moment -> the labels of each."""

    what: str
    series: Series
    alerts: Mapping[str, list[Labels]]
    step: str = "1m"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """Three cases of an alert, and more."""

    fires: Series
    at: str
    labels: Labels = field(default_factory=dict)
    silent: Series
    clears: Series
    cleared_at: str
    missing: Series | None = None  # series without the one that is read first: it fires
    missing_labels: Labels | None = None
    early: Series | None = None  # counted before the first scrape, by a process that has just started: it fires
    guarded: Series | None = None  # it would fire, but for its guard
    step: str = "1m"

    def cases(self) -> list[Case]:
        """Return all cases."""
        fired: dict[str, list[Labels]] = {self.at: [self.labels]}
        found = [
            Case(what="fires", series=self.fires, alerts=fired, step=self.step),
            Case(what="stays silent", series=self.silent, alerts={self.at: []}, step=self.step),
            Case(what="clears", series=self.clears, alerts=fired | {self.cleared_at: []}, step=self.step),
        ]
        if self.missing is not None:
            labels = self.labels if self.missing_labels is None else self.missing_labels
            found.append(Case(what="missing", series=self.missing, alerts={self.at: [labels]}, step=self.step))
        if self.early is not None:
            found.append(Case(what="early", series=self.early, alerts=fired, step=self.step))
        if self.guarded is not None:
            found.append(Case(what="guarded", series=self.guarded, alerts={self.at: []}, step=self.step))
        return found


def questions(good: str, bad: str) -> Series:
    """Questions to Alipay: with a usable answer, and without one."""
    name, account = "alipay_notify_questions_total", 'account="shop",outcome='
    return {f'{name}{{{account}"unpaid"}}': good, f'{name}{{{account}"refused"}}': bad}


def http(good: str, bad: str = "0+0x300", job: str = "ingest") -> Series:
    """Answers of a receiver: those within a second, and 503."""
    name, labels = "http_server_request_duration_seconds", f'job="{job}",http_response_status_code='
    return {
        f'{name}_bucket{{{labels}"200",le="1.0"}}': good,
        f'{name}_count{{{labels}"200"}}': good,
        f'{name}_count{{{labels}"503"}}': bad,
        f'{name}_count{{{labels}"401"}}': "0+1000x300",  # the sender's fault: counts for nothing
    }


def applied(good: str, all_: str) -> Series:
    """Notifications with their order event within five seconds, and all."""
    name = "alipay_notify_end_to_end_duration_seconds"
    return {
        f'{name}_bucket{{job="worker",trade_status="TRADE_SUCCESS",le="5.0"}}': good,
        f'{name}_count{{job="worker",trade_status="TRADE_SUCCESS"}}': all_,
    }


def received(values: str, outcome: str = "accepted", account: str = "shop") -> Series:
    return {f'alipay_notify_received_total{{account="{account}",outcome="{outcome}",job="ingest"}}': values}


def gauge(name: str, values: str, **labels: str) -> Series:
    """One series of ours."""
    shown = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {f"alipay_notify_{name}{{{shown}}}": values}


def claims(acquired: str, timeout: str) -> Series:
    return gauge("claims_total", acquired, outcome="acquired") | gauge("claims_total", timeout, outcome="timeout")


def retiring(values: str) -> Series:
    return gauge("retiring_key_until_timestamp_seconds", values, account="shop", key_id="k", sign_type="RSA")


HERE = {"job": "worker", "instance": "w1:9464"}
BUSY = received("0+100x600")
BUILD = gauge("build_info", "1+0x60 _x60", **HERE, version="1")
UP = 'up{job="worker",instance="w1:9464"}'
STARTED = 'process_start_time_seconds{job="worker",instance="w1:9464"}'


def early(name: str, **labels: str) -> Series:
    """A counter that is 1 at its first scrape; its process started a minute before."""
    return gauge(name, "_x5 1+0x90", **HERE, **labels) | {STARTED: "_x5 240+0x90"}


HELD_AMOUNT = {"disposition": "quarantined", "reason": "amount_mismatch"}
LAG = {"topic": "payments.alipay.notification.v1", "partition": "3", "group": "worker"}
LAGGING = {"topic": LAG["topic"], "group": "worker"}
EXPORTED = 'kafka_consumergroup_lag{topic="payments.alipay.notification.v1",partition="3",consumergroup="worker"}'
DELAY = "alipay_notify_delivery_delay_seconds_bucket"


def delays(late: str, all_: str) -> Series:
    return {f'{DELAY}{{le="240.0"}}': late, f'{DELAY}{{le="900.0"}}': all_, f'{DELAY}{{le="+Inf"}}': all_}


BUDGETS = {
    "AckBudgetBurn": Tried(
        fires=http("0+90x300", "0+10x300") | BUSY,
        at="70m",
        labels={"job": "ingest"},
        silent=http("0+10000x300", "0+1x300") | BUSY,
        clears=http("0+90x80 7290+100x300", "0+10x80 800+0x300") | BUSY,
        cleared_at="125m",
        missing={f"{name}": values for name, values in http("0+0x1", "0+10x300").items() if '"200"' not in name} | BUSY,
        guarded=http("0+0x300", "0+1x300") | received("0+0.5x300"),
    ),
    "AckBudgetBurnSlow": Tried(
        fires=http("0+995x300", "0+5x300") | BUSY,
        at="3h",
        labels={"job": "ingest"},
        silent=http("0+100000x300", "0+1x300") | BUSY,
        clears=http("0+995x40 40000+1000x260", "0+5x40 200+0x260") | BUSY,
        cleared_at="12h",
        guarded=http("0+995x300", "0+5x300") | received("0+1x300"),
        step="5m",
    ),
    "EndToEndBudgetBurn": Tried(
        fires=applied("0+80x300", "0+100x300") | BUSY,
        at="70m",
        labels={"job": "worker"},
        silent=applied("0+999x300", "0+1000x300") | BUSY,
        clears=applied("0+80x80 6500+100x300", "0+100x380") | BUSY,
        cleared_at="125m",
        missing=dict([*applied("0+0x1", "0+10x300").items()][1:]) | BUSY,
        guarded=applied("0+0x300", "0+1x300") | received("0+0.5x300"),
    ),
    "EndToEndBudgetBurnSlow": Tried(
        fires=applied("0+95x300", "0+100x300") | BUSY,
        at="3h",
        labels={"job": "worker"},
        silent=applied("0+999x300", "0+1000x300") | BUSY,
        clears=applied("0+95x40 3900+100x260", "0+100x300") | BUSY,
        cleared_at="12h",
        guarded=applied("0+95x300", "0+100x300") | received("0+1x300"),
        step="5m",
    ),
}
RECEIVING = {
    "AllSignaturesFailing": Tried(
        fires=received("0+1x60") | received("0+9x60", "bad_signature"),
        at="20m",
        labels={"account": "shop"},
        silent=received("0+9x60") | received("0+1x60", "bad_signature"),
        clears=received("0+0x20 0+9x60") | received("0+9x20 180+0x60", "bad_signature"),
        cleared_at="40m",
        missing=received("0+9x60", "bad_signature"),
        guarded=received("0+0x60") | received("0+0x15 1+1x5 6+0x40", "bad_signature"),
    ),
    "SignatureFailureSpike": Tried(
        fires=gauge("signature_failures_total", "0+0x280 0+10x60", account="shop", reason="bad_signature"),
        at="5h",
        labels={"account": "shop"},
        silent=gauge("signature_failures_total", "0+10x400", account="shop", reason="bad_signature"),
        clears=gauge("signature_failures_total", "0+0x280 0+10x20 200+0x60", account="shop", reason="bad_signature"),
        cleared_at="340m",
        guarded=gauge("signature_failures_total", "0+0x280 0+1x60", account="shop", reason="bad_signature"),
    ),
    "NotificationsStopped": Tried(
        fires=received("0+10x2016 20160+0x12"),
        at="10110m",
        silent=received("0+10x2100"),
        clears=received("0+10x2016 20160+0x8 20160+10x20"),
        cleared_at="10150m",
        missing=received("0+10x2010 _x30"),
        guarded=received("0+1x10 10+0x2100"),
        step="5m",
    ),
    "AlipayIsResending": Tried(
        fires=delays("0+5x60", "0+10x60") | BUSY,
        at="40m",
        silent=delays("0+10x60", "0+10x60") | BUSY,
        clears=delays("0+5x45 225+10x90", "0+10x135") | BUSY,
        cleared_at="90m",
        guarded=delays("0+0x60", "0+0.1x60") | received("0+0.1x60"),
    ),
    "QuestionsUnanswered": Tried(
        fires=questions("0+0x200", "0+1x200"),
        at="90m",
        labels={"account": "shop"},
        silent=questions("0+1x200", "0+1x200"),
        clears=questions("0+0x100 0+1x200", "0+1x100 100+0x200"),
        cleared_at="180m",
        guarded=questions("0+0x200", "0+0x50 1+0x150"),
    ),
    "RefusedUntilTheLastTry": Tried(
        fires=gauge("refused_gives_up_timestamp_seconds", "_x60 87840+0x300", account="shop"),
        at="570m",
        labels={"account": "shop"},
        silent=gauge("refused_gives_up_timestamp_seconds", "87840+0x110 95000+0x300", account="shop"),
        clears=gauge("refused_gives_up_timestamp_seconds", "87840+0x120 _x300", account="shop"),
        cleared_at="620m",
        step="5m",
    ),
    "PublicKeyExpiringSoon": Tried(
        fires=gauge("public_key_expiry_timestamp_seconds", "1000000+0x300", account="shop", key_id="k"),
        at="90m",
        labels={"account": "shop", "key_id": "k"},
        silent=gauge("public_key_expiry_timestamp_seconds", "9000000+0x300", account="shop", key_id="k"),
        clears=gauge("public_key_expiry_timestamp_seconds", "1000000+0x95 9000000+0x60", account="shop", key_id="k"),
        cleared_at="105m",
    ),
    "RetiringKeyStillUsed": Tried(
        fires=retiring("500000+0x300") | gauge("key_verifications_total", "0+1x300", account="shop", key_id="k"),
        at="90m",
        labels={"account": "shop", "key_id": "k"},
        silent=gauge(
            "retiring_key_until_timestamp_seconds", "500000+0x300", account="shop", key_id="k", sign_type="RSA"
        )
        | gauge("key_verifications_total", "7+0x300", account="shop", key_id="k"),
        clears=retiring("500000+0x92 _x60") | gauge("key_verifications_total", "0+1x300", account="shop", key_id="k"),
        cleared_at="110m",
        early=retiring("500000+0x300")
        | gauge("key_verifications_total", "1+0x300", **HERE, account="shop", key_id="k")
        | {STARTED: "0+0x300"},
    ),
}
PROCESSING = {
    "ConsumerLagSeconds": Tried(
        fires=gauge("consumer_lag_seconds", "0+60x30", **LAG),
        at="10m",
        labels=LAGGING,
        silent=gauge("consumer_lag_seconds", "200+0x30", **LAG),
        clears=gauge("consumer_lag_seconds", "0+60x11 0+0x60", **LAG),
        cleared_at="20m",
    ),
    "LagGrowing": Tried(
        fires=gauge("consumer_lag_seconds", "0+5x60", **LAG),
        at="40m",
        labels=LAGGING,
        silent=gauge("consumer_lag_seconds", "100-1x60", **LAG),
        clears=gauge("consumer_lag_seconds", "0+5x42 200-5x60", **LAG),
        cleared_at="75m",
        missing={EXPORTED: "0+100x60"},  # no worker is left to say so
        guarded={EXPORTED: "0+100x60"} | gauge("consumer_lag_seconds", "0+0x60", **LAG),
    ),
    "OutboxStuck": Tried(
        fires=gauge("outbox_oldest_timestamp_seconds", "60+0x30", **HERE),
        at="10m",
        silent=gauge("outbox_oldest_timestamp_seconds", "0+60x30", **HERE),
        clears=gauge("outbox_oldest_timestamp_seconds", "60+0x11 0+0x30", **HERE),
        cleared_at="20m",
        guarded=gauge("outbox_oldest_timestamp_seconds", "0+0x30", **HERE),
    ),
    "DependencyDown": Tried(
        fires=gauge("dependency_up", "1+0x5 0+0x30", **HERE, dependency="store"),
        at="10m",
        labels={"job": "worker", "dependency": "store"},
        silent=gauge("dependency_up", "1+0x30", **HERE, dependency="store"),
        clears=gauge("dependency_up", "1+0x5 0+0x6 1+0x30", **HERE, dependency="store"),
        cleared_at="20m",
        guarded=gauge("dependency_up", "0+0x30", **HERE, dependency="redis"),
    ),
    "UnderReplicated": Tried(
        fires=gauge("under_replicated_partitions", "0+0x5 12+0x30", **HERE, topic="t"),
        at="15m",
        labels={"topic": "t"},
        silent=gauge("under_replicated_partitions", "0+0x5 12+0x3 0+0x30", **HERE, topic="t"),
        clears=gauge("under_replicated_partitions", "0+0x5 12+0x11 0+0x30", **HERE, topic="t"),
        cleared_at="25m",
    ),
    "RedisDown": Tried(
        fires=gauge("claims_total", "0+0x5 0+50x60", outcome="error"),
        at="20m",
        silent=gauge("claims_total", "0+50x60", outcome="acquired") | gauge("claims_total", "0+0x60", outcome="error"),
        clears=gauge("claims_total", "0+0x5 0+50x16 800+0x60", outcome="error"),
        cleared_at="40m",
    ),
    "ClaimContentionHigh": Tried(
        fires=gauge("claims_total", "0+80x90", outcome="acquired")
        | gauge("claims_total", "0+20x90", outcome="timeout")
        | BUSY,
        at="40m",
        silent=gauge("claims_total", "0+99x90", outcome="acquired")
        | gauge("claims_total", "0+1x90", outcome="timeout")
        | BUSY,
        clears=claims("0+80x120", "0+20x42 840+0x60") | BUSY,
        cleared_at="75m",
        guarded=claims("0+0x90", "0+1x90") | received("0+0.5x90"),
    ),
    "FencedWrites": Tried(
        fires=gauge("fenced_writes_total", "0+1x60", **HERE),
        at="20m",
        silent=gauge("fenced_writes_total", "7+0x60", **HERE),
        clears=gauge("fenced_writes_total", "0+1x22 22+0x60", **HERE),
        cleared_at="50m",
        guarded=gauge("fenced_writes_total", "0+1x60", **HERE) | gauge("claims_total", "0+1x60", outcome="error"),
        early={**gauge("fenced_writes_total", "_x15 1+0x60", **HERE), STARTED: "_x15 840+0x60"},
    ),
    "RetryStorm": Tried(
        fires=gauge("retries_total", "0+0x280 0+30x60", tier="pause", reason="infrastructure"),
        at="310m",
        labels={"tier": "pause"},
        silent=gauge("retries_total", "0+30x400", tier="pause", reason="infrastructure"),
        clears=gauge("retries_total", "0+0x280 0+30x35 1050+0x60", tier="pause", reason="infrastructure"),
        cleared_at="345m",
        guarded=gauge("retries_total", "0+0x280 0+1x60", tier="1h", reason="unknown_order"),
    ),
    "DeadRun": Tried(
        fires=gauge("worker_loop_failures_total", "0+0x5 1+0x60", **HERE, loop="consumer", reason="dead_letters"),
        at="10m",
        silent=gauge("worker_loop_failures_total", "0+0x5 1+0x60", **HERE, loop="consumer", reason="bug"),
        clears=gauge("worker_loop_failures_total", "0+0x5 1+0x90", **HERE, loop="consumer", reason="dead_letters"),
        cleared_at="60m",
        # The worker stopped before it was scraped: the others see its dead letters.
        missing=gauge("held_notifications", "0+0x6 20+0x60", **HERE, disposition="dead"),
        guarded=gauge("held_notifications", "0+1x60", **HERE, disposition="dead"),
        early=early("worker_loop_failures_total", loop="consumer", reason="dead_letters"),
    ),
    "WorkerLoopFailing": Tried(
        fires=gauge("worker_loop_failures_total", "0+0x5 1+0x60", **HERE, loop="relay", reason="bug"),
        at="10m",
        labels={"job": "worker", "loop": "relay", "reason": "bug"},
        silent=gauge("worker_loop_failures_total", "1+0x60", **HERE, loop="relay", reason="bug"),
        clears=gauge("worker_loop_failures_total", "0+0x5 1+0x60", **HERE, loop="relay", reason="bug"),
        cleared_at="40m",
        early=early("worker_loop_failures_total", loop="relay", reason="bug"),
    ),
    "HandlingInterrupted": Tried(
        fires=gauge("handling_interrupted_total", "0+0x5 1+0x90", **HERE, step="decide"),
        at="10m",
        labels={"step": "decide"},
        silent=gauge("handling_interrupted_total", "0+0x90", **HERE, step="decide"),
        clears=gauge("handling_interrupted_total", "0+0x5 1+0x90", **HERE, step="decide"),
        cleared_at="80m",
        early=early("handling_interrupted_total", step="decide"),
    ),
    "PartitionsRewound": Tried(
        fires=gauge("partitions_rewound_total", "0+0x5 2+0x90", **HERE),
        at="10m",
        silent=gauge("partitions_rewound_total", "0+0x90", **HERE),
        clears=gauge("partitions_rewound_total", "0+0x5 2+0x90", **HERE),
        cleared_at="80m",
        early=early("partitions_rewound_total"),
    ),
}
HELD = {
    "AmountMismatch": Tried(
        fires=gauge("held_total", "0+0x5 1+0x60", **HERE, **HELD_AMOUNT)
        | gauge("held_notifications", "0+0x5 1+0x60", **HERE, disposition="quarantined"),
        at="10m",
        labels={"reason": "amount_mismatch"},
        silent=gauge("held_total", "0+0x5 1+0x60", **HERE, disposition="quarantined", reason="bad_time")
        | gauge("held_notifications", "0+0x5 1+0x60", **HERE, disposition="quarantined"),
        clears=gauge("held_total", "0+0x5 1+0x60", **HERE, **HELD_AMOUNT)
        | gauge("held_notifications", "0+0x5 1+0x10 0+0x60", **HERE, disposition="quarantined"),
        cleared_at="20m",
        guarded=gauge("held_total", "1+0x60", **HERE, **HELD_AMOUNT)
        | gauge("held_notifications", "1+0x60", **HERE, disposition="quarantined"),
        early=early("held_total", **HELD_AMOUNT)
        | gauge("held_notifications", "_x5 1+0x60", **HERE, disposition="quarantined"),
    ),
    "IllegalTransition": Tried(
        fires=gauge("held_total", "0+0x5 1+0x90", **HERE, disposition="quarantined", reason="second_trade"),
        at="10m",
        labels={"reason": "second_trade"},
        silent=gauge("held_total", "0+0x5 1+0x90", **HERE, **HELD_AMOUNT),
        clears=gauge("held_total", "0+0x5 1+0x90", **HERE, disposition="quarantined", reason="second_trade"),
        cleared_at="80m",
        early=early("held_total", disposition="quarantined", reason="second_trade"),
    ),
    "DeadOpen": Tried(
        fires=gauge("held_notifications", "1+0x60", **HERE, disposition="dead"),
        at="20m",
        silent=gauge("held_notifications", "0+0x60", **HERE, disposition="dead"),
        clears=gauge("held_notifications", "1+0x22 0+0x60", **HERE, disposition="dead"),
        cleared_at="30m",
    ),
    "QuarantineOpen": Tried(
        fires=gauge("held_notifications", "1+0x60", **HERE, disposition="quarantined"),
        at="20m",
        silent=gauge("held_notifications", "1+0x60", **HERE, disposition="parked"),
        clears=gauge("held_notifications", "1+0x22 0+0x60", **HERE, disposition="quarantined"),
        cleared_at="30m",
    ),
    "HeldOld": Tried(
        fires=gauge("held_oldest_timestamp_seconds", "60+0x300", **HERE, disposition="parked"),
        at="1460m",
        labels={"disposition": "parked"},
        silent=gauge("held_oldest_timestamp_seconds", "0+0x300", **HERE, disposition="parked"),
        clears=gauge("held_oldest_timestamp_seconds", "60+0x292 0+0x60", **HERE, disposition="parked"),
        cleared_at="1490m",
        step="5m",
    ),
}
OLDEST_WAITS = gauge("callback_oldest_timestamp_seconds", "60+0x120", **HERE, endpoint="shop")


def callbacks(outcome: str, values: str) -> Series:
    return gauge("callback_attempts_total", values, **HERE, endpoint="shop", outcome=outcome)


HELD |= {
    "CallbacksUndelivered": Tried(
        fires=OLDEST_WAITS | callbacks("delivered", "0+100x5 500+0x115") | callbacks("refused", "0+1x120"),
        at="80m",
        labels={"endpoint": "shop"},
        silent=gauge("callback_oldest_timestamp_seconds", "0+60x120", **HERE, endpoint="shop")
        | gauge("callback_disabled", "0+0x120", **HERE, endpoint="shop"),
        clears=gauge("callback_disabled", "1+0x82 0+0x60", **HERE, endpoint="shop"),
        cleared_at="120m",
        # Disabled, before any of its events is old.
        missing=gauge("callback_disabled", "1+0x120", **HERE, endpoint="shop"),
        # It takes others.
        guarded=OLDEST_WAITS | callbacks("delivered", "0+100x120"),
    ),
    "CallbackRefused": Tried(
        fires=OLDEST_WAITS | callbacks("delivered", "0+100x120") | callbacks("refused", "0+1x120"),
        at="80m",
        labels={"endpoint": "shop"},
        silent=gauge("callback_oldest_timestamp_seconds", "0+60x120", **HERE, endpoint="shop")
        | callbacks("delivered", "0+100x120")
        | callbacks("refused", "0+1x120"),
        clears=gauge("callback_oldest_timestamp_seconds", "60+0x82 0+0x60", **HERE, endpoint="shop")
        | callbacks("delivered", "0+100x140"),
        cleared_at="120m",
        # It takes nothing any more, which is the other alert.
        guarded=OLDEST_WAITS | callbacks("delivered", "100+0x120") | callbacks("refused", "0+1x120"),
    ),
}


def at_risk(values: str, age: str = "1h", **process: str) -> Series:
    return gauge("money_at_risk_minor_units", values, **(process or HERE), account="shop", currency="CNY", age=age)


RISKED = {"account": "shop", "currency": "CNY"}
HELD |= {
    "MoneyAtRiskGrowing": Tried(
        fires=at_risk("_x5 0+100x120"),
        at="70m",
        labels=RISKED,
        silent=at_risk("1280+0x30 2560+0x20 1280+0x60"),
        clears=at_risk("_x5 0+100x67 6700+0x60"),
        cleared_at="120m",
        # A payment that only grows older is no growth, and neither is another worker that leads.
        guarded=at_risk("1280+0x59 _x60") | at_risk("_x60 1280+0x60", "24h", job="worker", instance="w2:9464"),
    ),
    "MoneyAtRiskOld": Tried(
        fires=at_risk("1280+0x59 _x60") | at_risk("_x60 1280+0x60", "24h"),
        at="70m",
        labels=RISKED,
        silent=at_risk("1280+0x120"),
        clears=at_risk("_x60 1280+0x12 _x60", "24h"),
        cleared_at="90m",
    ),
    "MoneyAtRiskUnknown": Tried(
        fires=gauge("money_at_risk_complete", "1+0x5 0+0x60", **HERE),
        at="30m",
        silent=gauge("money_at_risk_complete", "1+0x5 0+0x10 1+0x60", **HERE),
        clears=gauge("money_at_risk_complete", "1+0x5 0+0x25 1+0x60", **HERE),
        cleared_at="50m",
    ),
}
PRESENT = {'alipay_notify_append_duration_seconds_count{job="ingest",result="ok"}': "0+1x60"}
ENGINE = gauge("write_ahead_log_bytes", "0+1x60", database="journal")
PROCESSES = {
    "TargetAbsent": Tried(
        fires=PRESENT,
        at="10m",
        labels={"role": "worker"},
        silent=PRESENT | gauge("commits_dropped_total", "0+0x60", **HERE),
        clears=PRESENT | gauge("commits_dropped_total", "_x12 0+0x60", **HERE),
        cleared_at="20m",
        missing=gauge("commits_dropped_total", "0+0x60", **HERE),
        missing_labels={"role": "receiver"},
        guarded=PRESENT | ENGINE,
    ),
    "TargetDown": Tried(
        fires={UP: "1+0x5 0+0x60"} | BUILD,
        at="20m",
        labels=HERE,
        silent={UP: "1+0x60"} | BUILD,
        clears={UP: "1+0x5 0+0x17 1+0x60"} | BUILD,
        cleared_at="40m",
        guarded={UP: "0+0x60"},  # somebody else's process
    ),
    "ProcessRestarting": Tried(
        fires={STARTED: "1+1x60"} | BUILD,
        at="20m",
        labels=HERE,
        silent={STARTED: "1+0x9 2+0x60"} | BUILD,
        clears={STARTED: "1+1x22 23+0x60"} | BUILD,
        cleared_at="50m",
    ),
    "ProcessNotReady": Tried(
        fires=gauge("ready", "1+0x5 0+0x60", **HERE),
        at="20m",
        labels=HERE,
        silent=gauge("ready", "1+0x17 0+0x1 1+0x60", **HERE),  # a drain
        clears=gauge("ready", "1+0x5 0+0x17 1+0x60", **HERE),
        cleared_at="40m",
    ),
    "AccountsReloadFailed": Tried(
        fires=gauge("accounts_last_reload_successful", "1+0x5 0+0x60", **HERE),
        at="20m",
        labels=HERE,
        silent=gauge("accounts_last_reload_successful", "1+0x60", **HERE),
        clears=gauge("accounts_last_reload_successful", "1+0x5 0+0x17 1+0x60", **HERE),
        cleared_at="40m",
    ),
    "EventLoopSlow": Tried(
        fires=gauge("event_loop_lag_seconds", "0.9+0x60", **HERE),
        at="20m",
        labels=HERE,
        silent=gauge("event_loop_lag_seconds", "0.01+0x60", **HERE),
        clears=gauge("event_loop_lag_seconds", "0.9+0x22 0+0x60", **HERE),
        cleared_at="40m",
    ),
    "ClockSkewed": Tried(
        fires=gauge("clock_skew_seconds", "-7+0x60", **HERE),
        at="20m",
        labels=HERE,
        silent=gauge("clock_skew_seconds", "0.1+0x60", **HERE),
        clears=gauge("clock_skew_seconds", "-7+0x22 0+0x60", **HERE),
        cleared_at="40m",
    ),
    "LogLinesDropped": Tried(
        fires=gauge("log_lines_dropped_total", "0+0x5 9+0x60", **HERE),
        at="10m",
        labels=HERE,
        silent=gauge("log_lines_dropped_total", "9+0x60", **HERE),
        clears=gauge("log_lines_dropped_total", "0+0x5 9+0x60", **HERE),
        cleared_at="40m",
        early=early("log_lines_dropped_total"),
    ),
}
ALL = BUDGETS | RECEIVING | PROCESSING | HELD | PROCESSES
