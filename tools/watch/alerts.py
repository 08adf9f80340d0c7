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

_OUR_REFUSALS = 'answer=~"busy|store_unavailable|source_unknown"'


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


def _errors(window: str) -> str:
    """The part of webhooks in a window that was answered 503; 0 while there are none."""
    refused = f"sum(rate(trunkline_receipts_total{{{_OUR_REFUSALS}}}[{window}]))"
    return f"({refused} or vector(0)) / (sum(rate(trunkline_receipts_total[{window}])) > 0)"


def _quantile(histogram: str, window: str) -> str:
    return f"histogram_quantile(0.95, sum by (le) (rate({histogram}_bucket[{window}])))"


def _burns(rate: float, long: str, short: str) -> str:
    most = f"{rate * (1 - OBJECTIVE):.4f}".rstrip("0")
    return f"(trunkline:webhook_errors:ratio_{long} > {most} and trunkline:webhook_errors:ratio_{short} > {most})"


RECORDED = (
    *(Recorded(f"trunkline:webhook_errors:ratio_{window}", _errors(window)) for window in BURN_WINDOWS),
    Recorded(
        "trunkline:requests:rate5m",
        "(sum(rate(trunkline_receipts_total[5m])) or vector(0)) "
        "+ (sum(rate(trunkline_api_requests_total[5m])) or vector(0))",
    ),
    Recorded(
        "trunkline:request_errors:rate5m",
        f"(sum(rate(trunkline_receipts_total{{{_OUR_REFUSALS}}}[5m])) or vector(0)) "
        '+ (sum(rate(trunkline_api_requests_total{status=~"5.."}[5m])) or vector(0))',
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
        f"{_burns(14.4, '1h', '5m')} or {_burns(6, '6h', '30m')}",
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
        "TrunklineErrorRateHigh",
        "trunkline:request_errors:rate5m / trunkline:requests:rate5m > 0.05",
        "5m",
        PAGE,
        "Over 5 % of webhooks and API requests fail in the suite.",
    ),
    Alert(
        "TrunklineProcessDown",
        'up{job="trunkline"} == 0',
        "2m",
        PAGE,
        "A process does not answer when it is asked for its metrics.",
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
        "sum by (instance) (increase(trunkline_spool_damaged_total[1h])) > 0",
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
        "max(trunkline_dead_letters) - max(min_over_time(trunkline_dead_letters[1h])) > 10",
        "5m",
        TICKET,
        "There are over ten dead letters more than an hour ago.",
    ),
    Alert(
        "TrunklineRowsSetAside",
        "sum by (instance, work) (increase(trunkline_set_aside_total[1h])) > 0",
        "0m",
        TICKET,
        "Rows cannot be worked on, and wait for a later look.",
    ),
    Alert(
        "TrunklineBreakerOpen",
        "max by (service) (max_over_time(trunkline_breaker_state[1m])) == 2",
        "3m",
        PAGE,
        "A worker leaves a service alone, because its calls fail one after another.",
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
        "(sum(rate(envoy_http_ext_authz_failure_mode_allowed[5m])) or vector(0)) "
        "+ (sum(rate(envoy_cluster_ratelimit_failure_mode_allowed[5m])) or vector(0)) > 0",
        "2m",
        TICKET,
        "The tenant service does not answer Envoy: requests pass without limits, and the services verify their keys.",
    ),
    Alert(
        "TrunklineSourceSilent",
        "sum by (tenant, source) "
        '(increase(trunkline_source_webhooks_total{source!="other"}[2h] offset 1w)) > 20 '
        "unless on (tenant, source) "
        "(time() - max by (tenant, source) (max_over_time(trunkline_source_last_webhook_seconds[2h])) < 7200)",
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
        'sum by (provider) (rate(trunkline_receipts_total{answer="bad_signature"}[15m])) '
        "> 0.1 * sum by (provider) (rate(trunkline_receipts_total[15m]))",
        "15m",
        TICKET,
        "Over a tenth of a provider's webhooks have a wrong signature: a secret may have been changed on one side.",
    ),
)
