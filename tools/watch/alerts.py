"""The alerts: what each promise of the suite is watched by. Each has a runbook in docs/runbooks/."""

from __future__ import annotations

import re
from dataclasses import dataclass

PAGE = "page"
"""Somebody is called at once: senders or tenants notice it now."""
TICKET = "ticket"
"""Somebody looks within the working day."""

BUDGET_USD = 1000
"""What the engines may cost in a calendar month; an operator sets it in the rules' file of the deployment."""
OBJECTIVE = 0.999
"""The part of webhooks that the suite itself does not refuse."""
BURN_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")

FLOOR = 10
"""Fewer failures in a window don't fire an alert: on a quiet server, one failure is a large part."""

_OURS = "busy|store_unavailable|store_not_ready|source_unknown|internal"
_OUR_REFUSALS = f'answer=~"{_OURS}"'
# What strangers send is no part of all webhooks: it would hide an outage, however little it costs them.
_ANSWERED = f'answer=~"accepted|unverified|{_OURS}"'
# Of one address, it would be that one's own doing.
_AT_THE_EDGE = 'trunkline_http_refused_total{reason=~"too_many_connections|too_many_bodies"}'
_LAST = "trunkline_source_last_webhook_seconds"
_BAD = "trunkline_source_bad_signatures_total"
_GOOD = "trunkline_source_webhooks_total"
_SOURCE = "tenant, source"
_NAMED = '{source!="other"}'
# What answers in the place of a process may be another one, or a program that serves metrics of its own.
_ITSELF = 'label_replace(trunkline_process_info, "process", "$1", "name", "(.*)")'
_BACKUPS = 'name="trunkline-backup.timer"'


@dataclass(frozen=True)
class Recorded:
    """A query whose answer is kept as a series."""

    name: str
    query: str


@dataclass(frozen=True)
class Alert:
    """A query that is to have no answer, and for how long it may have one."""

    name: str
    query: str
    lasts: str
    """As Prometheus writes durations."""
    severity: str
    summary: str

    @property
    def runbook(self) -> str:
        """The name of its page in docs/runbooks."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", self.name.removeprefix("Trunkline")).lower()


def _sum(function: str, series: str, window: str) -> str:
    """What came in a window, 0 if nothing did."""
    return f"(sum({function}({series}[{window}])) or vector(0))"


def _webhooks(function: str, answers: str, window: str) -> str:
    """Webhooks with these answers, and what was refused before anybody knew what it was."""
    receipts = _sum(function, f"trunkline_receipts_total{{{answers}}}", window)
    return f"{receipts} + {_sum(function, _AT_THE_EDGE, window)}"


def _errors(window: str) -> str:
    """The part of webhooks in a window that was answered 503; 0 while there are none."""
    return f"({_webhooks('rate', _OUR_REFUSALS, window)}) / (({_webhooks('rate', _ANSWERED, window)}) > 0)"


def _counted(counter: str, window: str, by: str = "", ago: str = "") -> str:
    """What a counter has counted in a window. A series that appears with its first count has no increase for that.

    So of one that was not there before the window, all counts are of the window. This is for labels that are not known
    beforehand, such as sources; series whose labels are known are shown from 0 on, and need only `rate`.
    """
    at = f" offset {ago}" if ago else ""
    new = f"{counter}{at} unless {counter} offset {ago}{window}"
    return f"sum{f' by ({by})' if by else ''} (({new}) or increase({counter}[{window}]{at}))"


def _quantile(histogram: str, window: str) -> str:
    return f"histogram_quantile(0.95, {_counted(f'{histogram}_bucket', window, 'le')})"


def _burns(rate: float, long: str, short: str, least: int = 0) -> str:
    most = f"{rate * (1 - OBJECTIVE):.4f}".rstrip("0")
    ratio = "trunkline:webhook_errors:ratio_"
    floor = f" and {_webhooks('increase', _OUR_REFUSALS, long)} > {least}" if least else ""
    return f"({ratio}{long} > {most} and {ratio}{short} > {most}{floor})"


# An hour, because many a source sends a few webhooks an hour; of those, one or two wrong ones may be a stranger's.
_WRONG = _counted(_BAD, "1h", _SOURCE)

RECORDED = (
    *(Recorded(f"trunkline:webhook_errors:ratio_{window}", _errors(window)) for window in BURN_WINDOWS),
    Recorded(
        "trunkline:requests:rate5m",
        f"{_webhooks('rate', _ANSWERED, '5m')} + "
        + _sum("rate", 'trunkline_api_requests_total{status!~"4.."}', "5m"),
    ),
    Recorded(
        "trunkline:request_errors:rate5m",
        f"{_webhooks('rate', _OUR_REFUSALS, '5m')} + "
        + _sum("rate", 'trunkline_api_requests_total{status=~"5.."}', "5m"),
    ),
    Recorded("trunkline:receive_seconds:p95", _quantile("trunkline_receive_seconds", "5m")),
    Recorded("trunkline:analysis_seconds:p95", _quantile("trunkline_ai_analysis_seconds", "5m")),
    Recorded("trunkline:transcription_seconds:p95", _quantile("trunkline_audio_transcription_seconds", "5m")),
    # Each replica of the tenant service tells the same costs.
    Recorded("trunkline:month_cost_usd", "max(sum by (instance) (trunkline_tenant_month_cost_micros)) / 1e6"),
    Recorded("trunkline:month_budget_usd", f"vector({BUDGET_USD})"),
)

ALERTS = (
    Alert(
        "TrunklineWebhooksRefused",
        "max by (instance) (trunkline_webhooks_go_to) == 2",
        "1m",
        PAGE,
        "Neither the store nor the spool takes webhooks; senders get 503.",
    ),
    Alert(
        "TrunklineWebhookBudgetBurnsFast",
        f"{_burns(14.4, '1h', '5m', FLOOR)} or {_burns(6, '6h', '30m', FLOOR)}",
        "2m",
        PAGE,
        "So many webhooks get 503 that the month's 0.1 % would be spent within days.",
    ),
    Alert(
        "TrunklineWebhookBudgetBurnsSlowly",
        f"{_burns(3, '1d', '2h')} or {_burns(1, '3d', '6h')}",
        "15m",
        TICKET,
        "More webhooks get 503 than the month's 0.1 % allows.",
    ),
    Alert(
        "TrunklineWebhooksSlow",
        "trunkline:receive_seconds:p95 > 0.2",
        "5m",
        PAGE,
        "The slowest twentieth of webhooks waits over 200 ms for its 202.",
    ),
    Alert(
        "TrunklineVerificationCrowded",
        'sum by (provider) (increase(trunkline_receipts_total{answer="verification_busy"}[15m])) > 100',
        "15m",
        TICKET,
        "Large or compressed webhooks get 503, because too many of their source wait to be verified.",
    ),
    Alert(
        "TrunklineErrorRateHigh",
        "trunkline:request_errors:rate5m / trunkline:requests:rate5m > 0.05 "
        f"and trunkline:request_errors:rate5m * 300 > {FLOOR}",
        "5m",
        PAGE,
        "Over 5 % of webhooks and API requests fail in the suite.",
    ),
    Alert(
        "TrunklineProcessDown",
        f'up{{job="trunkline"}} == 0 or (up{{job="trunkline"}} == 1 unless on (instance, process) {_ITSELF})',
        "2m",
        PAGE,
        "A process does not show its metrics: it is down, or another program has their address.",
    ),
    Alert(
        "TrunklineWorkerSilent",
        "time() - trunkline_worker_last_claim_seconds > 120",
        "1m",
        PAGE,
        "A worker has had no answer to a claim for two minutes: it processes no calls.",
    ),
    Alert(
        "TrunklineOldestJobWaits",
        'max by (class) (trunkline_jobs_oldest_seconds{class="realtime"}) > 120 '
        'or max by (class) (trunkline_jobs_oldest_seconds{class="batch"}) > 3600',
        "5m",
        PAGE,
        "Calls wait too long for a worker.",
    ),
    Alert(
        "TrunklineSpoolNotEmpty",
        "sum by (instance) (trunkline_spool_rows) > 0",
        "5m",
        TICKET,
        "Webhooks have waited in the spool for five minutes: the store does not take them.",
    ),
    Alert(
        "TrunklineSpoolDamaged",
        f"{_counted('trunkline_spool_damaged_total', '1h', 'instance')} > 0",
        "0m",
        TICKET,
        "A file of the spool is damaged.",
    ),
    Alert(
        "TrunklineDiskNearlyFull",
        "min by (instance, keeps) (trunkline_disk_free_bytes / trunkline_disk_size_bytes) < 0.1",
        "5m",
        PAGE,
        "Less than a tenth of a disk is free.",
    ),
    Alert(
        "TrunklineDeadLettersGrow",
        "max(trunkline_dead_letters) - max(min_over_time(trunkline_dead_letters[1h])) > 10 "
        "or max(trunkline_dead_letters) >= 20000",
        "5m",
        TICKET,
        "There are over ten dead letters more than an hour ago, or more than are counted.",
    ),
    Alert(
        "TrunklineRowsSetAside",
        f"{_counted('trunkline_set_aside_total', '1h', 'instance, work')} > 0",
        "0m",
        TICKET,
        "Rows cannot be worked on, and wait for a later look.",
    ),
    Alert(
        "TrunklineBreakerOpen",
        'max by (service) (max_over_time(trunkline_breaker_state{service=~"tenant|audio|ai"}[2m])) == 2',
        "3m",
        PAGE,
        "A worker leaves a service alone, because its calls fail one after another.",
    ),
    Alert(
        "TrunklineEngineLeftAlone",
        'max by (service) (max_over_time(trunkline_breaker_state{service!~"tenant|audio|ai"}[2m])) == 2',
        "5m",
        TICKET,
        "An engine, or the Redis of the cache, is left alone, because its calls fail one after another.",
    ),
    Alert(
        "TrunklineAnalysisSlow",
        "trunkline:analysis_seconds:p95 > 1",
        "3m",
        TICKET,
        "The slowest twentieth of analyses takes over a second.",
    ),
    Alert(
        "TrunklineTranscriptionSlow",
        "trunkline:transcription_seconds:p95 > 5",
        "10m",
        TICKET,
        "The slowest twentieth of transcriptions takes over five seconds.",
    ),
    Alert(
        "TrunklineEngineNotReady",
        "min by (engine) (trunkline_engine_ready) == 0",
        "5m",
        TICKET,
        "An engine cannot answer; another one stands in for it.",
    ),
    Alert(
        "TrunklineCostOverBudget",
        "trunkline:month_cost_usd > trunkline:month_budget_usd",
        "15m",
        TICKET,
        "The engines have cost more this month than the budget.",
    ),
    Alert(
        "TrunklineEdgeAsksNobody",
        f"({_counted('envoy_http_ext_authz_failure_mode_allowed', '5m')} or vector(0)) "
        f"+ ({_counted('envoy_cluster_ratelimit_failure_mode_allowed', '5m')} or vector(0)) > 0",
        "2m",
        TICKET,
        "The tenant service does not answer Envoy: requests pass without limits, and the services verify their keys.",
    ),
    Alert(
        "TrunklineSourceSilent",
        f"{_counted(_GOOD + _NAMED, '2h', _SOURCE, '1w')} > 20 "
        f"and on (tenant, source) time() - max by (tenant, source) (max_over_time({_LAST}[1d])) >= 7200",
        "15m",
        TICKET,
        "A source that sent over 20 webhooks in these two hours a week ago sends none.",
    ),
    Alert(
        "TrunklineRecordingsRefused",
        "max(trunkline_recording_refused_sources) > 0",
        "10m",
        TICKET,
        "A provider refuses the credential of a source; its calls wait for their recordings.",
    ),
    Alert(
        "TrunklineSignaturesRefused",
        f"{_WRONG} > 0.1 * ({_WRONG} + ({_counted(_GOOD, '1h', _SOURCE)} or 0 * {_WRONG})) and {_WRONG} >= 3",
        "15m",
        TICKET,
        "Over a tenth of a source's webhooks in an hour, three at least, have a wrong signature: was a secret changed?",
    ),
    Alert(
        "TrunklineTenantOverQuota",
        "max(trunkline_tenants_over_quota) > 0",
        "15m",
        TICKET,
        "A tenant has more receipts than its plan allows: its webhooks get 429.",
    ),
    Alert(
        "TrunklineCallsNotTold",
        f"{_counted('trunkline_calls_not_told_total', '1h')} > 0",
        "0m",
        TICKET,
        "Calls never learned that their event had ended.",
    ),
    Alert(
        "TrunklineLogLinesLost",
        f"{_counted('trunkline_log_lines_lost_total', '1h', 'instance')} > 0",
        "0m",
        TICKET,
        "A process could not write lines of its log.",
    ),
    Alert(
        "TrunklineBackupMissing",
        'max(node_systemd_unit_state{name="trunkline-backup.service",state="failed"}) == 1 '
        f"or time() - max(node_systemd_timer_last_trigger_seconds{{{_BACKUPS}}}) > 26 * 3600 "
        f'or max(up{{job="machine"}}) == 0 '
        f'or max(up{{job="machine"}}) unless on () node_systemd_timer_last_trigger_seconds{{{_BACKUPS}}}',
        "15m",
        TICKET,
        "The last backup failed or is over 26 hours old, or its state is unknown.",
    ),
)
