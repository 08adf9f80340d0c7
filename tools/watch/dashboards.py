"""What the dashboards show: panels, their queries, and their units, for Grafana and for the pictures in docs/."""

from __future__ import annotations

from dataclasses import dataclass

RATE = "$__rate_interval"
"""Grafana sets it to the shortest window in which a rate has samples; `asked` does so elsewhere."""
TENANT = "$tenant"
"""A regular expression of tenants that the viewer chooses."""
WIDE = 24
"""Columns of a dashboard."""


@dataclass(frozen=True)
class Query:
    """A question to Prometheus; `legend` names its series, with labels in double braces."""

    text: str
    legend: str = ""
    silent: str = ""
    """Why a suite that works well gives no answer to it; empty if it always has one."""

    def asked(self, window: str = "1m") -> str:
        """The question without Grafana's variables: rates over that window, every tenant."""
        return self.text.replace(RATE, window).replace(TENANT, ".*")


@dataclass(frozen=True)
class Panel:
    """A figure, or lines over time."""

    title: str
    tells: str
    queries: tuple[Query, ...]
    unit: str = "short"
    """As Grafana names it: s, reqps, ops, percentunit, bytes, currencyUSD, or short."""
    kind: str = "lines"
    """lines, stacked, or stat."""
    width: int = 8
    bad_from: float | None = None
    """A stat is red from here; below or equal if `bad_below`."""
    bad_below: bool = False

    @property
    def height(self) -> int:
        """Grid units, of 30 pixels each."""
        return 4 if self.kind == "stat" else 8


@dataclass(frozen=True)
class Dashboard:
    """Panels from left to right and from top to bottom."""

    name: str
    title: str
    tells: str
    panels: tuple[Panel, ...]


def _quantiles(histogram: str, *by: str, part: float = 0.95) -> str:
    return f"histogram_quantile({part}, sum by ({', '.join(['le', *by])}) (rate({histogram}_bucket[{RATE}])))"


def _rate(metric: str, *by: str) -> str:
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate({metric}[{RATE}]))"


def _lines(
    title: str, tells: str, *queries: Query, unit: str = "short", kind: str = "lines", width: int = 8
) -> Panel:
    return Panel(title, tells, queries, unit, kind, width)


def _stat(
    title: str,
    tells: str,
    text: str,
    unit: str = "short",
    bad_from: float | None = None,
    *,
    bad_below: bool = False,
) -> Panel:
    return Panel(title, tells, (Query(text, title),), unit, "stat", 4, bad_from, bad_below)


_COST = "trunkline_tenant_month_cost_micros"
_LOCAL = "the local engine's answers aren't kept, since they cost nothing"
_NOT_YET = "has no series until it happens"

OVERVIEW = Dashboard(
    "overview",
    "Trunkline: overview",
    "Whether webhooks are taken, how fast, and whether calls wait.",
    (
        _stat("Webhooks", "All that arrive, a second.", _rate("trunkline_receipts_total"), "reqps"),
        _stat(
            "Acknowledged (p95)",
            "From a webhook's first byte to its 202, without waiting for its body; over five minutes.",
            "trunkline:receive_seconds:p95",
            "s",
            0.2,
        ),
        _stat(
            "Refused by the suite",
            "The part of webhooks that got 503 in an hour; the objective is 0.1 %.",
            "trunkline:webhook_errors:ratio_1h",
            "percentunit",
            0.001,
        ),
        _stat(
            "Oldest job",
            "How long the oldest due job has waited for a worker.",
            "max(trunkline_jobs_oldest_seconds) or vector(0)",
            "s",
            120,
        ),
        _stat(
            "Dead letters", "Events that nobody works on any more.", "max(trunkline_dead_letters)", bad_from=1
        ),
        _stat(
            "Processes that answer",
            "Of the five kinds: gateway, worker, tenant, audio, and ai.",
            'count(up{job="trunkline"} == 1) or vector(0)',
            bad_from=4,
            bad_below=True,
        ),
        _lines(
            "Webhooks by answer",
            "accepted is 202; busy, store_*, and source_unknown are the suite's own 503.",
            Query(_rate("trunkline_receipts_total", "answer"), "{{answer}}"),
            unit="reqps",
            kind="stacked",
        ),
        _lines(
            "Time to acknowledge",
            "From a webhook's first byte to its 202, without waiting for its body.",
            *(
                Query(_quantiles("trunkline_receive_seconds", part=part), f"p{part * 100:.0f}")
                for part in (0.5, 0.95, 0.99)
            ),
            unit="s",
        ),
        _lines(
            "Budget of errors",
            "The part of webhooks that got 503, over several windows; the objective is 0.1 %.",
            *(
                Query(f"trunkline:webhook_errors:ratio_{window}", window)
                for window in ("5m", "1h", "6h", "1d", "3d")
            ),
            unit="percentunit",
        ),
        _lines(
            "Jobs that wait",
            "Due jobs that no worker has yet, by class.",
            Query("max by (class) (trunkline_jobs_waiting)", "{{class}}"),
        ),
        _lines(
            "API requests by status",
            "Requests to /v1.",
            Query(_rate("trunkline_api_requests_total", "status"), "{{status}}"),
            unit="reqps",
            kind="stacked",
        ),
        _lines(
            "API latency (p95)",
            "The slowest RPCs.",
            Query(f"topk(5, {_quantiles('trunkline_api_seconds', 'rpc')})", "{{rpc}}"),
            unit="s",
        ),
        _lines(
            "Spool",
            "Receipts that wait in the spool for the store.",
            Query("sum(trunkline_spool_rows)", "receipts"),
        ),
        _lines(
            "Free disk",
            "The part of each disk that is free.",
            Query(
                "min by (process, keeps) (trunkline_disk_free_bytes / trunkline_disk_size_bytes)",
                "{{process}}: {{keeps}}",
            ),
            unit="percentunit",
        ),
        _lines(
            "Alerts",
            "Those that fire, by name.",
            Query('count(ALERTS{alertstate="firing"}) or vector(0)', "all that fire"),
            Query('count by (alertname) (ALERTS{alertstate="firing"})', "{{alertname}}", "no alert fires"),
        ),
    ),
)

PIPELINE = Dashboard(
    "pipeline",
    "Trunkline: pipeline",
    "What happens to a webhook after its 202: admission, jobs, stages, and the services that a worker asks.",
    (
        _stat(
            "Admission lag",
            "Age of the oldest receipt of the last lot.",
            "max(trunkline_admission_lag_seconds)",
            "s",
            5,
        ),
        _stat("Jobs that wait", "Due jobs of every class.", "sum(max by (class) (trunkline_jobs_waiting))"),
        _stat("Jobs that run", "In all workers.", "sum(trunkline_worker_running)"),
        _stat(
            "Last claim",
            "The longest since a worker had an answer to a claim.",
            "max(time() - trunkline_worker_last_claim_seconds)",
            "s",
            120,
        ),
        _stat(
            "Breakers open",
            "Services, engines, and the Redis of the cache that are left alone.",
            "count(max by (service) (trunkline_breaker_state) == 2) or vector(0)",
            bad_from=1,
        ),
        _stat(
            "Rows set aside (1 h)",
            "Rows that a loop could not work on.",
            "sum(increase(trunkline_set_aside_total[1h])) or vector(0)",
            bad_from=1,
        ),
        _lines(
            "Receipts by what admission found",
            "A receipt is a new event, or another delivery of one.",
            Query(_rate("trunkline_admitted_total", "outcome"), "{{outcome}}"),
            unit="ops",
            kind="stacked",
        ),
        _lines(
            "Runs of jobs",
            "By how they ended.",
            Query(_rate("trunkline_worker_jobs_total", "outcome"), "{{outcome}}"),
            unit="ops",
            kind="stacked",
        ),
        _lines(
            "Oldest job",
            "For how long the oldest due job has waited, by class.",
            Query("max by (class) (trunkline_jobs_oldest_seconds)", "{{class}}"),
            unit="s",
        ),
        _lines(
            "Stages",
            "Runs by stage and outcome.",
            Query(_rate("trunkline_stage_seconds_count", "stage", "outcome"), "{{stage}}: {{outcome}}"),
            unit="ops",
            kind="stacked",
        ),
        _lines(
            "Stage durations (p95)",
            "One run of a stage.",
            Query(_quantiles("trunkline_stage_seconds", "stage"), "{{stage}}"),
            unit="s",
        ),
        _lines(
            "RPCs of the services (p95)",
            "The slowest methods, seen by the service.",
            Query(f"topk(5, {_quantiles('trunkline_rpc_server_seconds', 'method')})", "{{method}}"),
            unit="s",
        ),
        _lines(
            "RPCs that failed",
            "By process and code, seen by the one that was asked.",
            Query(
                f'sum by (process, code) (rate(trunkline_rpc_server_calls_total{{code!="OK"}}[{RATE}])) > 0',
                "{{process}}: {{code}}",
                "no RPC fails",
            ),
            Query(f'sum(rate(trunkline_rpc_server_calls_total{{code!="OK"}}[{RATE}])) or vector(0)', "all"),
            unit="ops",
        ),
        _lines(
            "Breakers",
            "0 closed, 1 half open, 2 open; by what is asked.",
            Query("max by (service) (trunkline_breaker_state)", "{{service}}"),
        ),
        _lines(
            "Fetches of recordings without bytes",
            "By reason.",
            Query(_rate("trunkline_audio_fetch_failures_total", "reason"), "{{reason}}", _NOT_YET),
            Query(f"{_rate('trunkline_audio_fetch_failures_total')} or vector(0)", "all"),
            unit="ops",
        ),
    ),
)

ENGINES = Dashboard(
    "engines",
    "Trunkline: engines and cost",
    "Speech and language engines: whether they answer, how fast, what they cost, and what the cache saves.",
    (
        _stat(
            "Engines not ready",
            "Another one stands in.",
            "count(min by (engine) (trunkline_engine_ready) == 0) or vector(0)",
            bad_from=1,
        ),
        _stat("Analysis (p95)", "Over five minutes.", "trunkline:analysis_seconds:p95", "s", 1),
        _stat("Transcription (p95)", "Over five minutes.", "trunkline:transcription_seconds:p95", "s", 5),
        _stat(
            "Cost this month",
            "What all engines have cost.",
            "trunkline:month_cost_usd or vector(0)",
            "currencyUSD",
        ),
        _stat("Budget a month", "Set in the rules' file.", "trunkline:month_budget_usd", "currencyUSD"),
        _stat(
            "Answers from the cache",
            "The part of questions to models that needed no model.",
            f'sum(rate(trunkline_ai_cache_lookups_total{{result!="miss"}}[{RATE}])) '
            f"/ sum(rate(trunkline_ai_cache_lookups_total[{RATE}])) or vector(0)",
            "percentunit",
        ),
        _lines(
            "Analyses by engine",
            "Conversations analysed.",
            Query(_rate("trunkline_ai_analysis_seconds_count", "engine"), "{{engine}}"),
            unit="ops",
            kind="stacked",
        ),
        _lines(
            "Analysis durations",
            "Seconds an analysis took to be made.",
            *(
                Query(
                    _quantiles("trunkline_ai_analysis_seconds", "engine", part=part),
                    f"{{{{engine}}}} p{part * 100:.0f}",
                )
                for part in (0.5, 0.95)
            ),
            unit="s",
        ),
        _lines(
            "Transcription durations",
            "Seconds a transcription took.",
            *(
                Query(
                    _quantiles("trunkline_audio_transcription_seconds", "engine", part=part),
                    f"{{{{engine}}}} p{part * 100:.0f}",
                )
                for part in (0.5, 0.95)
            ),
            unit="s",
        ),
        _lines(
            "Sound transcribed",
            "Seconds of sound a second: above 1, faster than one caller talks.",
            Query(_rate("trunkline_audio_sound_seconds_total", "engine"), "{{engine}}"),
        ),
        _lines(
            "Sound in hand and waiting",
            "Seconds of sound that are worked on, and that wait.",
            Query("sum(trunkline_audio_in_hand_seconds)", "in hand"),
            Query("max(trunkline_audio_waiting_seconds)", "waiting"),
            unit="s",
        ),
        _lines(
            "Questions to models, by who answered",
            "miss: the model had to be asked.",
            Query(_rate("trunkline_ai_cache_lookups_total", "result"), "{{result}}", _LOCAL),
            unit="ops",
            kind="stacked",
        ),
        _lines(
            "Cost by engine",
            "US dollars an hour.",
            Query(f"{_rate('trunkline_engine_cost_micros_total', 'engine')} * 3600 / 1e6", "{{engine}}"),
            unit="currencyUSD",
        ),
        _lines(
            "Tokens",
            "Read (input) and written (output) a second.",
            Query(_rate("trunkline_engine_tokens_total", "engine", "kind"), "{{engine}} {{kind}}"),
        ),
        _lines(
            "Answers that another engine gave",
            "By the engine that was passed over, and why.",
            Query(
                _rate("trunkline_engine_passed_over_total", "engine", "reason"),
                "{{engine}}: {{reason}}",
                _NOT_YET,
            ),
            Query(f"{_rate('trunkline_engine_passed_over_total')} or vector(0)", "all"),
            unit="ops",
        ),
    ),
)

TENANTS = Dashboard(
    "tenants",
    "Trunkline: tenants",
    "What each tenant sends, how its jobs end, and what it costs; the busiest by name, the rest as other.",
    (
        _stat(
            "Tenants shown",
            "Those with a series of their own.",
            'count(count by (tenant) (trunkline_source_webhooks_total{tenant!="other"})) or vector(0)',
        ),
        _stat(
            "Over quota",
            "Tenants whose receipts are more than their plan allows.",
            "max(trunkline_tenants_over_quota)",
            bad_from=1,
        ),
        _stat(
            "To purge",
            "Deleted tenants whose data is not known to be removed everywhere.",
            "max(trunkline_tenants_to_purge)",
        ),
        _stat(
            "Cost this month",
            "Of all tenants.",
            "trunkline:month_cost_usd or vector(0)",
            "currencyUSD",
        ),
        _stat(
            "Signatures refused",
            "A second, of all providers.",
            f'sum(rate(trunkline_receipts_total{{answer="bad_signature"}}[{RATE}])) or vector(0)',
            "reqps",
            0.1,
        ),
        _stat(
            "Recordings refused",
            "Sources whose credential a provider refuses.",
            "max(trunkline_recording_refused_sources)",
            bad_from=1,
        ),
        _lines(
            "Webhooks by tenant",
            "Accepted ones.",
            Query(
                f'sum by (tenant) (rate(trunkline_source_webhooks_total{{tenant=~"{TENANT}"}}[{RATE}]))',
                "{{tenant}}",
            ),
            unit="reqps",
            kind="stacked",
        ),
        _lines(
            "Webhooks by source",
            "The ten busiest.",
            Query(
                "topk(10, sum by (tenant, source) "
                f'(rate(trunkline_source_webhooks_total{{tenant=~"{TENANT}"}}[{RATE}])))',
                "{{tenant}}: {{source}}",
            ),
            unit="reqps",
        ),
        _lines(
            "Silence of sources",
            "Seconds since the last accepted webhook: the ten longest.",
            Query(
                "topk(10, time() - max by (tenant, source) "
                f'(trunkline_source_last_webhook_seconds{{tenant=~"{TENANT}"}} < Inf))',
                "{{tenant}}: {{source}}",
            ),
            unit="s",
        ),
        _lines(
            "Runs of jobs by tenant",
            "All outcomes.",
            Query(
                f'sum by (tenant) (rate(trunkline_tenant_jobs_total{{tenant=~"{TENANT}"}}[{RATE}]))',
                "{{tenant}}",
            ),
            unit="ops",
            kind="stacked",
        ),
        _lines(
            "How jobs ended",
            "By tenant and outcome.",
            Query(
                f'sum by (tenant, outcome) (rate(trunkline_tenant_jobs_total{{tenant=~"{TENANT}"}}[{RATE}]))',
                "{{tenant}}: {{outcome}}",
            ),
            unit="ops",
        ),
        _lines(
            "Cost of the month",
            "The ten dearest tenants, and the rest.",
            Query(f'max by (tenant) ({_COST}{{tenant=~"{TENANT}"}}) / 1e6', "{{tenant}}"),
            unit="currencyUSD",
        ),
        _lines(
            "Requests against limits",
            "By kind of limit and verdict.",
            Query(
                _rate("trunkline_rates_total", "kind", "verdict"),
                "{{kind}}: {{verdict}}",
                "counts where a limit is set",
            ),
            unit="reqps",
        ),
        _lines(
            "Webhooks by provider",
            "All answers.",
            Query(_rate("trunkline_receipts_total", "provider"), "{{provider}}"),
            unit="reqps",
            kind="stacked",
        ),
        _lines(
            "Wrong signatures by source",
            "A secret may have been changed on one side.",
            Query(
                f"topk(10, sum by (tenant, source) "
                f'(rate(trunkline_source_bad_signatures_total{{tenant=~"{TENANT}"}}[{RATE}]))) > 0',
                "{{tenant}}: {{source}}",
                "all signatures are right",
            ),
            Query(
                f'sum(rate(trunkline_receipts_total{{answer="bad_signature"}}[{RATE}])) or vector(0)', "all"
            ),
            unit="reqps",
        ),
    ),
)

DASHBOARDS = (OVERVIEW, PIPELINE, ENGINES, TENANTS)
