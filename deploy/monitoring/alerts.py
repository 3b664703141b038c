"""The alerts, as a table. A page (`critical`) is for trouble that costs money or answers now; a ticket can wait.

Alerts are on work that is past its due and on missing data, not on totals. Each has three promtool cases in
`tests/contract/alert_cases.py`, and a runbook of its name in `deploy/runbooks`. Annotations name labels of the alert,
and no value, because a value changes from one evaluation to the next.
"""

from deploy.monitoring import callback_alerts, held_alerts, objectives
from deploy.monitoring.durations import DAY_S, HOUR_S
from deploy.monitoring.increases import any_increased
from deploy.monitoring.rules import Alert, Group
from workers.dead_letters import IN_A_ROW_MAX

# Which scraped processes are ours: job names are free, and a process that is down has no build info now.
OURS = "on (job, instance) last_over_time(alipay_notify_build_info[1d])"


def groups() -> list[Group]:
    """Return all alerts, in groups."""
    return [
        Group(name="alipay-notify-budgets", rules=list(objectives.burns())),
        Group(name="alipay-notify-receiving", rules=RECEIVING),
        Group(name="alipay-notify-processing", rules=PROCESSING),
        Group(name="alipay-notify-held", rules=held_alerts.HELD),
        Group(name="alipay-notify-callbacks", rules=callback_alerts.CALLBACKS),
        Group(name="alipay-notify-processes", rules=PROCESSES),
    ]


def table() -> list[Alert]:
    """Return all alerts."""
    return [rule for group in groups() for rule in group.rules if isinstance(rule, Alert)]


RECEIVING = [
    Alert(
        name="AllSignaturesFailing",
        severity="critical",
        for_="5m",
        # Ten, so that a scanner's handful of forgeries is no page; a small shop's key change is noticed all the same.
        expr="""
sum by (account) (rate(alipay_notify_received_total{outcome="bad_signature"}[5m]))
  / sum by (account) (rate(alipay_notify_received_total{outcome=~"accepted|bad_signature"}[5m]))
  > 0.5
and
  sum by (account) (increase(alipay_notify_received_total{outcome="bad_signature"}[1h])) > 10
""",
        summary="Most notifications of {{ $labels.account }} fail their signature check (验签失败).",
        description="Either Alipay signs with a key that accounts.toml does not have, or the notifications are forged.",
    ),
    Alert(
        name="SignatureFailureSpike",
        severity="warning",
        for_="5m",
        expr="""
sum by (account) (rate(alipay_notify_signature_failures_total[15m]))
  > 5 * sum by (account) (rate(alipay_notify_signature_failures_total[1d]))
and
  sum by (account) (increase(alipay_notify_signature_failures_total[15m])) > 20
""",
        summary="Far more signatures of {{ $labels.account }} fail than usual.",
        description="Forgeries have no effect. If they are Alipay's own, a key or a charset is wrong.",
    ),
    Alert(
        name="NotificationsStopped",
        severity="critical",
        expr="""
(sum(increase(alipay_notify_received_total{outcome="accepted"}[15m])) or vector(0)) < 1
and
  sum(increase(alipay_notify_received_total{outcome="accepted"}[15m] offset 1w)) > 10
""",
        keep="0s",
        summary="No notification has been accepted for 15 minutes; a week ago there were some at this time.",
        description="Alipay does not reach the receivers, or the shop sells nothing.",
    ),
    Alert(
        name="AlipayIsResending",
        severity="warning",
        for_="10m",
        expr=f"""
histogram_quantile(0.95, sum by (le) (rate(alipay_notify_delivery_delay_seconds_bucket[30m]))) > 240
and on ()
  {objectives.ENOUGH_TRAFFIC}
""",
        summary="Notifications arrive more than four minutes after their event.",
        description="Alipay's second try comes after four minutes: its first one was not answered with success.",
        board="business",
    ),
    Alert(
        name="RefusedUntilTheLastTry",
        severity="critical",
        # The gap before Alipay's last try is the longest of each profile.
        expr=f"min by (account) (alipay_notify_refused_gives_up_timestamp_seconds) - time() <= {15 * HOUR_S}",
        keep="0s",
        summary="A notification of {{ $labels.account }} is refused at each try: Alipay's last one is next, or past.",
        description="If it is Alipay's, its payment is not noticed here unless the last try is accepted.",
        board="business",
    ),
    Alert(
        name="PublicKeyExpiringSoon",
        severity="warning",
        for_="1h",
        expr=f"min by (account, key_id) (alipay_notify_public_key_expiry_timestamp_seconds) - time() < {14 * DAY_S}",
        summary="The certificate {{ $labels.key_id }} of {{ $labels.account }} expires within 14 days.",
        description="Alipay signs with another one by then: add it. The old one still verifies after its end.",
        board="business",
    ),
    Alert(
        name="RetiringKeyStillUsed",
        severity="warning",
        for_="1h",
        expr=f"""
min by (account, key_id) (alipay_notify_retiring_key_until_timestamp_seconds) - time() < {7 * DAY_S}
and
{any_increased("alipay_notify_key_verifications_total", "2d", by="account, key_id")}
""",
        summary="The key {{ $labels.key_id }} of {{ $labels.account }} retires within a week and is in use.",
        description="From the time in accounts.toml on, notifications that it signs are refused.",
        board="business",
    ),
    Alert(
        name="QuestionsUnanswered",
        severity="warning",
        for_="15m",
        expr=f"""
sum by (account) (
  increase(alipay_notify_questions_total{{outcome=~"no_answer|refused|unauthentic|not_ours|unreadable|failed|not_listed"}}[1h])
) > 3
unless
{any_increased('alipay_notify_questions_total{outcome=~"news|unpaid|not_found"}', "1h", by="account")}
""",
        summary="No question about an unpaid order of {{ $labels.account }} has a usable answer.",
        description="Payments whose notification is lost are not found until Alipay's answers can be used.",
        board="business",
    ),
]
PROCESSING = [
    Alert(
        name="ConsumerLagSeconds",
        severity="critical",
        for_="1m",
        expr="max by (topic, group) (alipay_notify_consumer_lag_seconds) > 240",
        summary="Acknowledged notifications wait for more than four minutes in {{ $labels.topic }}.",
        description="They are safe in the log, but orders do not change.",
        board="pipeline",
    ),
    Alert(
        name="LagGrowing",
        severity="warning",
        for_="15m",
        # Workers that are dead export no lag. Then kafka_exporter, if there is one, knows.
        expr="""
(
    max by (topic, group) (deriv(alipay_notify_consumer_lag_seconds[15m])) > 0
  and
    max by (topic, group) (alipay_notify_consumer_lag_seconds) > 30
)
or
sum by (topic, group) (
  label_replace(
    deriv(kafka_consumergroup_lag{topic=~".*payments.alipay.notification.v1"}[15m]),
    "group", "$1", "consumergroup", "(.*)"
  )
) > 0 unless on () alipay_notify_consumer_lag_seconds
""",
        summary="The lag of {{ $labels.topic }} grows.",
        description="More notifications arrive than the workers process.",
        board="pipeline",
    ),
    Alert(
        name="OutboxStuck",
        severity="critical",
        for_="1m",
        expr="time() - max(alipay_notify_outbox_oldest_timestamp_seconds > 0) > 60",
        summary="Order events wait for more than a minute in the outbox.",
        description="Orders change, but their consumers do not learn of it.",
        board="pipeline",
    ),
    Alert(
        name="DependencyDown",
        severity="critical",
        for_="1m",
        expr=('min by (job, dependency) (alipay_notify_dependency_up{dependency=~"kafka|journal|store|worker"}) == 0'),
        summary="{{ $labels.dependency }} does not answer {{ $labels.job }}.",
        description="Without kafka or journal, receivers answer 503; without store or worker, notifications wait.",
        board="reliability",
    ),
    Alert(
        name="UnderReplicated",
        severity="warning",
        for_="5m",  # a broker that is restarted is back sooner
        expr="max by (topic) (alipay_notify_under_replicated_partitions) > 0",
        summary="A broker has no copy in sync of some partitions of {{ $labels.topic }}.",
        description="Nothing is lost, and all goes on. With one broker less, appends fail, and receivers answer 503.",
        board="pipeline",
    ),
    Alert(
        name="RedisDown",
        severity="warning",
        for_="5m",
        expr='sum(rate(alipay_notify_claims_total{outcome="error"}[5m])) > 0',
        summary="Workers go on without idempotency locks, because Redis does not answer.",
        description="Nothing is lost or applied twice: the order store decides. It costs rolled back transactions.",
        board="reliability",
    ),
    Alert(
        name="ClaimContentionHigh",
        severity="warning",
        for_="15m",
        expr=f"""
sum(rate(alipay_notify_claims_total{{outcome=~"contended_then_acquired|timeout"}}[15m]))
  / sum(rate(alipay_notify_claims_total{{outcome=~"acquired|contended_then_acquired|timeout"}}[15m]))
  > 0.1
and on ()
  {objectives.ENOUGH_TRAFFIC}
""",
        summary="Workers wait for each other's idempotency locks.",
        description="More than a tenth of the locks were held by another worker.",
        board="reliability",
    ),
    Alert(
        name="FencedWrites",
        severity="warning",
        # Without Redis there are no locks, and conflicts are to be expected.
        expr=f"""
{any_increased("alipay_notify_fenced_writes_total", "15m")}
unless on ()
{any_increased('alipay_notify_claims_total{outcome="error"}', "30m")}
""",
        summary="The version check turned writes away although Redis answers.",
        description="A worker wrote after its lock had ended. Nothing is applied twice; it is tried again.",
        board="reliability",
    ),
    Alert(
        name="RetryStorm",
        severity="warning",
        for_="10m",
        expr="""
sum by (tier) (rate(alipay_notify_retries_total[15m])) > 0.1
and
  sum by (tier) (rate(alipay_notify_retries_total[15m])) > 5 * sum by (tier) (rate(alipay_notify_retries_total[1d]))
""",
        summary="Far more retries of tier {{ $labels.tier }} than usual.",
        description="The tier pause is a batch that waits for a server; the others are parked notifications.",
        board="reliability",
    ),
    Alert(
        name="DeadRun",
        severity="critical",
        # A worker that has stopped itself is not scraped again; then the number of dead letters shows it.
        expr=f"""
{any_increased('alipay_notify_worker_loop_failures_total{reason="dead_letters"}', "15m")}
or
max(alipay_notify_held_notifications{{disposition="dead"}})
  - max(alipay_notify_held_notifications{{disposition="dead"}} offset 10m)
  >= {IN_A_ROW_MAX}
""",
        keep="15m",
        summary="A run of dead letters: a worker stops itself, because the program is at fault and not the records.",
        description="Each restart makes one more dead letter, until a record is processed well.",
        board="reliability",
    ),
    Alert(
        name="WorkerLoopFailing",
        severity="warning",
        expr=any_increased(
            'alipay_notify_worker_loop_failures_total{reason!="dead_letters"}', "15m", by="job, loop, reason"
        ),
        summary="The loop {{ $labels.loop }} of {{ $labels.job }} failed: {{ $labels.reason }}.",
        description="A bug is restarted and needs a fix; damage needs an operator now.",
        board="reliability",
    ),
    Alert(
        name="HandlingInterrupted",
        severity="warning",
        expr=any_increased("alipay_notify_handling_interrupted_total", "1h", by="step"),
        summary="The step {{ $labels.step }} of a notification took longer than its limit and was interrupted.",
        description="This is a bug. The notification is a dead letter, and everything else goes on.",
        board="reliability",
    ),
    Alert(
        name="PartitionsRewound",
        severity="warning",
        expr=any_increased("alipay_notify_partitions_rewound_total", "1h"),
        summary="Workers read a part of the log again: the order store had lost records.",
        description="It was restored from a backup, or a standby without the last commits took over.",
        board="pipeline",
    ),
]
PROCESSES = [
    Alert(
        name="TargetAbsent",
        severity="critical",
        for_="5m",
        keep="0s",
        # A console exports a worker's metrics too, but none of a group; the embedded engine has those of its files.
        expr="""
label_replace(absent(alipay_notify_append_duration_seconds_count), "role", "receiver", "", "")
or
label_replace(
  absent(alipay_notify_commits_dropped_total or alipay_notify_write_ahead_log_bytes), "role", "worker", "", ""
)
""",
        summary="Prometheus sees no {{ $labels.role }}.",
        description="None runs, or none is scraped. Without data, no other alert about it can fire.",
    ),
    Alert(
        name="TargetDown",
        severity="warning",
        for_="5m",
        expr=f"up == 0\nand {OURS}",
        summary="{{ $labels.instance }} of {{ $labels.job }} cannot be scraped.",
        description="The process has ended, stands still, or is not reachable.",
    ),
    Alert(
        name="ProcessRestarting",
        severity="warning",
        expr=f"changes(process_start_time_seconds[15m]) > 2\nand {OURS}",
        summary="{{ $labels.instance }} of {{ $labels.job }} is restarted again and again.",
        description="It stops itself (exit code 4), or the machine kills it.",
    ),
    Alert(
        name="ProcessNotReady",
        severity="warning",
        for_="5m",
        expr="alipay_notify_ready == 0",
        summary="{{ $labels.instance }} of {{ $labels.job }} has not been ready for five minutes.",
        description="A drain takes seconds. A receiver that is not ready gets no requests from a load balancer.",
    ),
    Alert(
        name="AccountsReloadFailed",
        severity="warning",
        for_="5m",
        expr="alipay_notify_accounts_last_reload_successful == 0",
        summary="{{ $labels.instance }} of {{ $labels.job }} works with old accounts and keys.",
        description="accounts.toml or a key file is faulty. After a restart the process would refuse to start.",
        board="business",
    ),
    Alert(
        name="EventLoopSlow",
        severity="warning",
        for_="5m",
        expr="max by (job, instance) (alipay_notify_event_loop_lag_seconds) > 0.5",
        summary="The event loop of {{ $labels.instance }} ({{ $labels.job }}) is half a second late.",
        description="The process has too little CPU, or a call blocks it.",
        board="reliability",
    ),
    Alert(
        name="ClockSkewed",
        severity="warning",
        for_="5m",
        expr="max by (job, instance) (abs(alipay_notify_clock_skew_seconds)) > 2",
        summary="The clock of {{ $labels.instance }} ({{ $labels.job }}) differs from PostgreSQL's.",
        description="PostgreSQL's clock decides, so nothing is given up. Times in log lines are wrong.",
        board="reliability",
    ),
    Alert(
        name="LogLinesDropped",
        severity="info",
        expr=any_increased("alipay_notify_log_lines_dropped_total", "15m", by="job, instance"),
        summary="{{ $labels.instance }} of {{ $labels.job }} dropped log lines.",
        description="Whatever reads its standard error is too slow. Notifications are not affected.",
        board="reliability",
    ),
]
