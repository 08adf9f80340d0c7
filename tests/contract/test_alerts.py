"""Each alert fires when it is to and is quiet otherwise, as Prometheus' own promtool finds; each has a runbook."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import yaml

from tests.contract.test_documented_metrics import made
from tools.install import install_from_debian
from tools.watch import rules
from tools.watch.alerts import ALERTS, RECORDED

ROOT = Path(__file__).parent.parent.parent
RUNBOOKS = ROOT / "docs" / "runbooks"
_METRIC = re.compile(r"\btrunkline_[a-z0-9_]+")
_RECORDED = re.compile(r"\btrunkline:[a-z0-9_:]+")


class Case(NamedTuple):
    """What a Prometheus has seen, with which alert of these labels fires at a time, and what it is quiet with."""

    fires: dict[str, str]
    quiet: dict[str, str]
    labels: Mapping[str, str] = MappingProxyType({})
    at: str = "20m"
    quiet_at: str = ""
    """As `at`, unless it says another time."""
    interval: str = "1m"


def _histogram(name: str, slow: str, labels: str = "") -> dict[str, str]:
    """Of 100 observations a minute, `slow` a minute are above the bound that the alert looks at."""
    bound = {"receive": "0.2", "analysis": "1.0", "transcription": "5.0"}[name.split("_")[-2]]
    return {
        f'{name}_bucket{{le="{bound}"{labels}}}': f"0+{100 - int(slow)}x10000",
        f'{name}_bucket{{le="60.0"{labels}}}': "0+100x10000",
        f'{name}_bucket{{le="+Inf"{labels}}}': "0+100x10000",
    }


def _answers(accepted: int, refused: int, answer: str = "store_unavailable") -> dict[str, str]:
    return {
        'trunkline_receipts_total{provider="callrail",answer="accepted"}': f"0+{accepted}x10000",
        f'trunkline_receipts_total{{provider="callrail",answer="{answer}"}}': f"0+{refused}x10000",
    }


_AT_GATEWAY = {"instance": "g"}
_COST = "trunkline_tenant_month_cost_micros"
_LAST = 'trunkline_source_last_webhook_seconds{tenant="acme",source="s"}'
_SENT = 'trunkline_source_webhooks_total{tenant="acme",source="s"}'
_BAD = 'trunkline_source_bad_signatures_total{tenant="acme",source="s"}'
_OF_SOURCE = {"tenant": "acme", "source": "s"}
_UP = 'up{job="trunkline",instance="g",process="gateway"}'
_ITSELF = 'trunkline_process_info{job="trunkline",instance="g",process="gateway",name="gateway"}'
_OF_PROCESS = {"job": "trunkline", "instance": "g", "process": "gateway"}
_DEAD = "trunkline_dead_letters"
_FAILED = 'node_systemd_unit_state{name="trunkline-backup.service",state="failed"}'
_TIMER = 'node_systemd_timer_last_trigger_seconds{name="trunkline-backup.timer"}'
_MACHINE = 'up{job="machine"}'
_STRANGER = {'trunkline_receipts_total{provider="unknown",answer="no_such_hook"}': "0+60000x10000"}
_EDGE = 'trunkline_http_refused_total{reason="too_many_connections"}'
_API = 'trunkline_api_requests_total{rpc="GetCall",status="503"}'
_AT_ONCE = "_x10 {0}x100"
"""A series that appears with all of its counts."""
_FROM_0 = "0x10 {0}x100"
"""One that is shown before it counts anything."""
CASES = {
    "TrunklineWebhooksRefused": Case(
        {'trunkline_webhooks_go_to{instance="g"}': "2x30"},
        {'trunkline_webhooks_go_to{instance="g"}': "1x30"},
        _AT_GATEWAY,
    ),
    "TrunklineWebhookBudgetBurnsFast": Case(_answers(98, 2), _answers(9999, 1), at="90m"),
    "TrunklineWebhookBudgetBurnsSlowly": Case(_answers(996, 4), _answers(9999, 1), at="4d", interval="15m"),
    "TrunklineWebhooksSlow": Case(
        _histogram("trunkline_receive_seconds", "6"), _histogram("trunkline_receive_seconds", "4")
    ),
    "TrunklineErrorRateHigh": Case(
        {**_answers(90, 0), 'trunkline_api_requests_total{rpc="GetCall",status="503"}': "0+6x10000"},
        {**_answers(90, 0), 'trunkline_api_requests_total{rpc="GetCall",status="404"}': "0+6x10000"},
    ),
    "TrunklineProcessDown": Case(
        {_UP: "0x30"},
        {_UP: "1x30", _ITSELF: "1x30"},
        _OF_PROCESS,
    ),
    "TrunklineWorkerSilent": Case(
        {'trunkline_worker_last_claim_seconds{instance="w"}': "60x30"},
        {'trunkline_worker_last_claim_seconds{instance="w"}': "0+60x30"},
        {"instance": "w"},
    ),
    "TrunklineOldestJobWaits": Case(
        {'trunkline_jobs_oldest_seconds{class="realtime"}': "121x30"},
        {
            'trunkline_jobs_oldest_seconds{class="realtime"}': "119x30",
            'trunkline_jobs_oldest_seconds{class="background"}': "100000x30",
        },
        {"class": "realtime"},
    ),
    "TrunklineSpoolNotEmpty": Case(
        {'trunkline_spool_rows{instance="g"}': "1x30"},
        {'trunkline_spool_rows{instance="g"}': "0 0 0 7 7 7 0x30"},
        _AT_GATEWAY,
        at="8m",
    ),
    "TrunklineSpoolDamaged": Case(
        # A counter with labels appears with its first count.
        {'trunkline_spool_damaged_total{instance="g",what="file"}': "_x10 1x30"},
        {'trunkline_spool_damaged_total{instance="g",what="file"}': "1x200"},
        _AT_GATEWAY,
        quiet_at="90m",
    ),
    "TrunklineDiskNearlyFull": Case(
        {
            'trunkline_disk_free_bytes{instance="g",keeps="store"}': "9x30",
            'trunkline_disk_size_bytes{instance="g",keeps="store"}': "100x30",
        },
        {
            'trunkline_disk_free_bytes{instance="g",keeps="store"}': "11x30",
            'trunkline_disk_size_bytes{instance="g",keeps="store"}': "100x30",
        },
        {"instance": "g", "keeps": "store"},
    ),
    "TrunklineDeadLettersGrow": Case({_DEAD: "5x20 5+1x30"}, {_DEAD: "500x50"}, at="45m"),
    "TrunklineRowsSetAside": Case(
        {'trunkline_set_aside_total{instance="g",work="admission"}': "_x10 1x30"},
        {'trunkline_set_aside_total{instance="g",work="admission"}': "3x200"},
        {"instance": "g", "work": "admission"},
        quiet_at="90m",
    ),
    "TrunklineBreakerOpen": Case(
        {'trunkline_breaker_state{service="ai"}': "2x30"},
        {'trunkline_breaker_state{service="ai"}': "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 2 2 0x30"},
        {"service": "ai"},
    ),
    "TrunklineEngineLeftAlone": Case(
        {'trunkline_breaker_state{service="redis"}': "2x30"},
        {'trunkline_breaker_state{service="redis"}': "2x5 1x30"},
        {"service": "redis"},
    ),
    "TrunklineVerificationCrowded": Case(
        _answers(90, 10, "verification_busy"),
        _answers(90, 5, "verification_busy"),
        {"provider": "callrail"},
        at="60m",
    ),
    "TrunklineAnalysisSlow": Case(
        _histogram("trunkline_ai_analysis_seconds", "6"), _histogram("trunkline_ai_analysis_seconds", "4")
    ),
    "TrunklineTranscriptionSlow": Case(
        _histogram("trunkline_audio_transcription_seconds", "6"),
        _histogram("trunkline_audio_transcription_seconds", "4"),
    ),
    "TrunklineEngineNotReady": Case(
        {'trunkline_engine_ready{engine="openai"}': "0x30"},
        {'trunkline_engine_ready{engine="openai"}': "1x30"},
        {"engine": "openai"},
    ),
    "TrunklineCostOverBudget": Case(
        # Two replicas tell the same: not quite the budget of 1,000 dollars, and a little more.
        {f'{_COST}{{tenant="{t}",instance="{i}"}}': "500100000x30" for t in ("a", "rest") for i in "xy"},
        {f'{_COST}{{tenant="{t}",instance="{i}"}}': "499900000x30" for t in ("a", "rest") for i in "xy"},
    ),
    "TrunklineEdgeAsksNobody": Case(
        {"envoy_cluster_ratelimit_failure_mode_allowed": "0x10 1+1x30"},
        {
            "envoy_cluster_ratelimit_failure_mode_allowed": "3x30",
            "envoy_http_ext_authz_failure_mode_allowed": "0x30",
        },
    ),
    "TrunklineSourceSilent": Case(
        # A webhook every two minutes in the first four hours, and a week later none; or as many again.
        {_SENT: "0+5x24 120x1100", _LAST: "0+600x24 14400x1100"},
        {_SENT: "0+5x2000", _LAST: "0+600x2000"},
        _OF_SOURCE,
        at="171h",
        interval="10m",
    ),
    "TrunklineRecordingsRefused": Case(
        {"trunkline_recording_refused_sources": "1x30"}, {"trunkline_recording_refused_sources": "0x30"}
    ),
    "TrunklineSignaturesRefused": Case(
        # One of a hundred sources; the others are well.
        {_BAD: "0+5x100", _SENT: "0+1x100", _SENT.replace('"s"', '"other"'): "0+1000x100"},
        {_BAD: "0+5x100", _SENT: "0+95x100"},
        _OF_SOURCE,
        at="40m",
    ),
    "TrunklineTenantOverQuota": Case(
        {"trunkline_tenants_over_quota": "1x40"}, {"trunkline_tenants_over_quota": "0x40"}
    ),
    "TrunklineCallsNotTold": Case(
        {"trunkline_calls_not_told_total": "0x10 1x30"},
        {"trunkline_calls_not_told_total": "1x200"},
        quiet_at="90m",
    ),
    "TrunklineLogLinesLost": Case(
        {'trunkline_log_lines_lost_total{instance="g"}': "0x10 1x30"},
        {'trunkline_log_lines_lost_total{instance="g"}': "1x200"},
        _AT_GATEWAY,
        quiet_at="90m",
    ),
    "TrunklineBackupMissing": Case(
        {_MACHINE: "1x30", _FAILED: "1x30", _TIMER: "60x30"},
        {_MACHINE: "1x30", _FAILED: "0x30", _TIMER: "60x30"},
    ),
}
MORE = {
    "a stranger's 404s hide no outage from the page": (
        "TrunklineWebhookBudgetBurnsFast",
        Case({**_STRANGER, **_answers(0, 60)}, {**_STRANGER, **_answers(60, 0)}, at="90m"),
    ),
    "a stranger's 404s hide no outage from the rate of errors": (
        "TrunklineErrorRateHigh",
        Case({**_STRANGER, **_answers(0, 60)}, {**_STRANGER, **_answers(60, 0)}),
    ),
    "requests that are refused as wrong hide no failure of the API": (
        "TrunklineErrorRateHigh",
        Case(
            {_API: "0+6x30", _API.replace("503", "401"): "0+60000x30"},
            {_API.replace("503", "200"): "0+6x30", _API.replace("503", "401"): "0+60000x30"},
        ),
    ),
    "a stranger who keeps verification busy pages nobody": (
        "TrunklineWebhookBudgetBurnsFast",
        Case(_answers(60, 60, "busy"), _answers(60, 600, "verification_busy"), at="90m"),
    ),
    "connections that are refused are webhooks that are refused": (
        "TrunklineWebhookBudgetBurnsFast",
        Case(
            {**_answers(60, 0), _EDGE: "0+20x200"},
            {**_answers(60, 0), _EDGE.replace('s"', 's_of_address"'): "0+20x200"},
            at="90m",
        ),
    ),
    "a fault of the gateway itself is an error": (
        "TrunklineErrorRateHigh",
        Case(_answers(60, 60, "internal"), _answers(60, 60, "bad_encoding")),
    ),
    "one failed webhook on a quiet server calls nobody": (
        "TrunklineWebhookBudgetBurnsFast",
        Case(
            {
                **_answers(1, 0),
                'trunkline_receipts_total{provider="twilio",answer="busy"}': "0x60 0+3x100",
            },
            {**_answers(1, 0), 'trunkline_receipts_total{provider="twilio",answer="busy"}': "0x85 1x100"},
            at="90m",
        ),
    ),
    "two failed requests on a quiet server call nobody": (
        "TrunklineErrorRateHigh",
        Case({_API: "0+6x30"}, {_API: "0 1 2 2 2 2 2 2 2 2 2 2 2"}, at="20m", quiet_at="8m"),
    ),
    "a restart is no growth of dead letters": (
        "TrunklineDeadLettersGrow",
        Case({_DEAD: "20000x50"}, {_DEAD: "50x20 NaN 50x30"}, at="45m", quiet_at="30m"),
    ),
    "a cache that is left alone is no service that is": (
        "TrunklineBreakerOpen",
        Case(
            {'trunkline_breaker_state{service="audio",process="worker"}': "2 1 2 1 2 1 2 1 2 1 2x30"},
            {'trunkline_breaker_state{service="redis",process="ai"}': "2x30"},
            {"service": "audio"},
        ),
    ),
    "a source that was deleted is missed by nobody": (
        "TrunklineSourceSilent",
        Case(
            {_SENT: "0+5x24 120x900", _LAST: "0+600x24 14400x1100"},
            {_SENT: "0+5x24 120x900", _LAST: "0+600x24 Inf+0x1100"},
            _OF_SOURCE,
            at="171h",
            interval="10m",
        ),
    ),
    "a source of which nobody knows when it last sent is missed by nobody": (
        "TrunklineSourceSilent",
        Case(
            {_SENT: "0+5x24 120x900", _LAST: "0+600x1000 stale"},
            {_SENT: "0+5x24 120x900", _LAST: "0+600x24 stale"},
            _OF_SOURCE,
            at="171h",
            interval="10m",
        ),
    ),
    "a source with nothing but wrong signatures is told of": (
        "TrunklineSignaturesRefused",
        Case({_BAD: "0+5x100"}, {_SENT: "0+5x100"}, _OF_SOURCE, at="40m"),
    ),
    "two wrong signatures may be a stranger's": (
        "TrunklineSignaturesRefused",
        Case({_BAD: _AT_ONCE.format(3)}, {_BAD: _AT_ONCE.format(2)}, _OF_SOURCE, at="40m"),
    ),
    "another program that serves metrics at the address is not the process": (
        "TrunklineProcessDown",
        Case({_UP: "1x30"}, {_UP: "1x30", _ITSELF: "1x30"}, _OF_PROCESS),
    ),
    "another process of the suite at the address is not the process": (
        "TrunklineProcessDown",
        Case(
            {_UP: "1x30", _ITSELF.replace('name="gateway"', 'name="worker"'): "1x30"},
            {_UP: "1x30", _ITSELF: "1x30"},
            _OF_PROCESS,
        ),
    ),
    "a timer that does not run is told of": (
        "TrunklineBackupMissing",
        Case(
            {_MACHINE: "1x100", _TIMER: "0x100"}, {_TIMER: "0x100"}, at="27h", quiet_at="25h", interval="20m"
        ),
    ),
    "a timer that is not there is told of, where the machine is asked": (
        "TrunklineBackupMissing",
        Case({_MACHINE: "1x30"}, {'up{job="trunkline"}': "1x30"}),
    ),
    "a machine that is not asked is told of": (
        "TrunklineBackupMissing",
        Case({_MACHINE: "0x30"}, {_MACHINE: "1x30", _TIMER: "60x30"}),
    ),
}


def _slow_burst(name: str, shape: str, labels: str = "") -> dict[str, str]:
    """Of 100 observations, 60 are above the bound that the alert looks at."""
    series = _histogram(name, "60", labels)
    return {key: shape.format(values.split("x")[0].removeprefix("0+")) for key, values in series.items()}


# The first counts of a process, after which nothing is counted; where an alert waits longer than it looks back, a few
# more bursts, each the first of its series.
FIRST = {
    "TrunklineWebhookBudgetBurnsFast": Case(
        {'trunkline_receipts_total{answer="busy"}': _FROM_0.format(60)}, {}, at="14m"
    ),
    "TrunklineWebhookBudgetBurnsSlowly": Case(
        {'trunkline_receipts_total{answer="busy"}': _FROM_0.format(60)}, {}, at="30m"
    ),
    "TrunklineWebhooksSlow": Case(_slow_burst("trunkline_receive_seconds", "0x10 {0}+{0}x8"), {}, at="17m"),
    "TrunklineErrorRateHigh": Case(
        # Another RPC fails each minute.
        {
            f'trunkline_api_requests_total{{rpc="{n}",status="503"}}': f"0x{10 + n} 20x{20 - n}"
            for n in range(7)
        },
        {},
        at="17m",
    ),
    "TrunklineVerificationCrowded": Case(
        {'trunkline_receipts_total{provider="callrail",answer="verification_busy"}': "0x10 150x10 300x20"},
        {},
        {"provider": "callrail"},
        at="27m",
    ),
    "TrunklineSpoolDamaged": Case(
        {'trunkline_spool_damaged_total{instance="g",what="file"}': _AT_ONCE.format(1)}, {}, _AT_GATEWAY
    ),
    "TrunklineRowsSetAside": Case(
        {'trunkline_set_aside_total{instance="g",work="admission"}': _AT_ONCE.format(1)},
        {},
        {"instance": "g", "work": "admission"},
    ),
    "TrunklineAnalysisSlow": Case(_slow_burst("trunkline_ai_analysis_seconds", _AT_ONCE), {}, at="14m"),
    "TrunklineTranscriptionSlow": Case(
        {
            key: values
            for n in range(4)
            for key, values in _slow_burst(
                "trunkline_audio_transcription_seconds", f"_x{10 + 4 * n} {{0}}x100", f',engine="{n}"'
            ).items()
        },
        {},
        at="21m",
    ),
    "TrunklineEdgeAsksNobody": Case(
        {"envoy_cluster_ratelimit_failure_mode_allowed": _AT_ONCE.format(1)}, {}, at="13m"
    ),
    "TrunklineSourceSilent": Case(
        {_SENT: "_x6 25x1100", _LAST: "_x6 3600x1100"}, {}, _OF_SOURCE, at="10180m", interval="10m"
    ),
    "TrunklineSignaturesRefused": Case({_BAD: _AT_ONCE.format(5)}, {}, _OF_SOURCE, at="30m"),
    "TrunklineCallsNotTold": Case({"trunkline_calls_not_told_total": _FROM_0.format(1)}, {}),
    "TrunklineLogLinesLost": Case(
        {'trunkline_log_lines_lost_total{instance="g"}': _FROM_0.format(1)}, {}, _AT_GATEWAY
    ),
}
FROM_ZERO = ("trunkline_receipts_total", "trunkline_http_refused_total", "trunkline_api_requests_total")
"""Counters whose labels are known, so that they are shown from 0 on: test_gateway_first_counts.py."""


@pytest.fixture(scope="module")
def promtool() -> Path:
    """Prometheus' own tool, which must be there where it can be: CI."""
    tool = install_from_debian("promtool")
    if tool is None:
        assert os.environ.get("CI") != "true", "promtool is not installed; see `make tools`"
        pytest.skip("promtool is not installed: `make tools` unpacks it where apt-get is")
    return tool


def unit(case: Case, name: str, *, fires: bool) -> dict[str, Any]:
    alert = next(one for one in ALERTS if one.name == name)
    series = case.fires if fires else case.quiet
    expected = {
        "exp_labels": {**case.labels, "severity": alert.severity},
        "exp_annotations": {"summary": alert.summary, "runbook_url": f"{rules.RUNBOOKS}/{alert.runbook}.md"},
    }
    return {
        "name": f"{name} {'fires' if fires else 'is quiet'}",
        "interval": case.interval,
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": [
            {
                "alertname": name,
                "eval_time": case.at if fires else case.quiet_at or case.at,
                "exp_alerts": [expected] if fires else [],
            }
        ],
    }


def groups_of(name: str, interval: str) -> list[dict[str, Any]]:
    """The rules as deployed, at an interval, but of the others only those that an alert looks at."""
    groups = yaml.safe_load(rules.rules())["groups"]
    queries = {
        rule.get("record") or rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]
    }
    wanted: set[str] = set()
    following = {name}
    while following:
        wanted |= following
        following = {found for one in following for found in _RECORDED.findall(queries[one])} - wanted
    for group in groups:
        group["interval"] = interval
        group["rules"] = [one for one in group["rules"] if (one.get("record") or one["alert"]) in wanted]
    return groups


def test_every_alert_has_a_case_that_fires_and_one_that_is_quiet():
    assert {alert.name for alert in ALERTS} == set(CASES)


@pytest.mark.parametrize(
    ("name", "case"),
    [*CASES.items(), *MORE.values()],
    ids=[*CASES, *(what.replace(" ", "-") for what in MORE)],
)
def test_promtool_finds_that_it_fires_and_that_it_is_quiet(promtool, tmp_path, name, case):
    ask_promtool(promtool, tmp_path, case, name, [unit(case, name, fires=fires) for fires in (True, False)])


def expanded(name: str) -> str:
    """An alert's query, and those of all that it looks at."""
    groups = groups_of(name, "1m")
    return "\n".join(rule["expr"] for group in groups for rule in group["rules"])


def test_every_alert_that_asks_a_counter_has_a_case_of_its_first_burst():
    asking = {alert.name for alert in ALERTS if re.search(r"(rate|increase)\(", expanded(alert.name))}
    assert asking == set(FIRST)


@pytest.mark.parametrize(("name", "case"), FIRST.items(), ids=list(FIRST))
def test_promtool_finds_that_a_first_burst_is_enough(promtool, tmp_path, name, case):
    ask_promtool(promtool, tmp_path, case, name, [unit(case, name, fires=True)])


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_counter_that_is_not_shown_from_0_on_is_not_asked_for_its_rate_alone(alert):
    for counter in re.findall(r"(?:rate|increase)\(([a-z_:]+)", expanded(alert.name)):
        if counter not in FROM_ZERO:
            assert re.search(rf"\({counter}\S*( offset \w+)? unless\s+{counter}", expanded(alert.name)), (
                counter
            )


def ask_promtool(promtool: Path, tmp_path: Path, case: Case, name: str, tests: list[dict[str, Any]]) -> None:
    groups = groups_of(name, case.interval)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    told = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": case.interval,
        # Of several groups, promtool takes any first: an alert would find what was recorded an interval ago.
        "group_eval_order": [group["name"] for group in groups],
        "tests": tests,
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(told))
    done = subprocess.run(
        [promtool, "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("what", ["rules", "config"])
def test_promtool_takes_what_is_deployed(promtool, what):
    file = rules.FOLDER / ("trunkline.rules.yaml" if what == "rules" else "prometheus.yaml")
    done = subprocess.run([promtool, "check", what, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def amtool() -> Path:
    """Alertmanager's own tool, which must be there where it can be: CI."""
    tool = install_from_debian("amtool")
    if tool is None:
        assert os.environ.get("CI") != "true", "amtool is not installed; see `make tools`"
        pytest.skip("amtool is not installed: `make tools` unpacks it where apt-get is")
    return tool


def ask_amtool(tool: Path, *asked: str | Path) -> str:
    done = subprocess.run([tool, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("severity", "to"), [("page", "page"), ("ticket", "ticket")])
def test_alertmanager_takes_what_is_deployed_and_sends_each_alert_where_it_belongs(amtool, severity, to):
    file = rules.FOLDER / "alertmanager.yaml"
    assert " - 1 templates" in ask_amtool(amtool, "check-config", file)
    ask_amtool(
        amtool, "config", "routes", "test", f"--config.file={file}", f"--verify.receivers={to}",
        f"severity={severity}",
    )  # fmt: skip


def test_alertmanager_takes_the_receivers_that_the_guide_shows(amtool, tmp_path):
    text = (ROOT / "docs" / "production.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    settings = yaml.safe_load((rules.FOLDER / "alertmanager.yaml").read_text())
    (tmp_path / "trunkline.tmpl").write_text((rules.FOLDER / "trunkline.tmpl").read_text())
    (tmp_path / "alertmanager.yaml").write_text(yaml.safe_dump(settings | yaml.safe_load(shown)))
    ask_amtool(amtool, "check-config", tmp_path / "alertmanager.yaml")
    # No secret stands in the file itself.
    assert not re.search(r"(password|key|secret|token)s?:", shown)


def test_prometheus_tells_an_alertmanager_whose_port_is_nobody_elses():
    deployed = yaml.safe_load((rules.FOLDER / "prometheus.yaml").read_text())
    told = [
        t
        for one in deployed["alerting"]["alertmanagers"]
        for s in one["static_configs"]
        for t in s["targets"]
    ]
    assert told == [rules.ALERTMANAGER]
    ports = [
        one.rpartition(":")[2]
        for one in (*rules.ADDRESSES.values(), rules.MACHINE, rules.ALERTMANAGER, "9095")
    ]
    assert len(set(ports)) == len(ports)


def test_no_metric_has_a_label_that_prometheus_adds():
    settings = yaml.safe_load(rules.scraping())
    added = {
        label
        for job in settings["scrape_configs"]
        for targets in job["static_configs"]
        for label in targets["labels"]
    }
    assert [(name, labels & added) for name, labels in made().items() if labels & added] == []


@pytest.mark.parametrize("path", rules.FILES, ids=lambda path: path.name)
def test_what_is_deployed_is_what_the_code_says(path):
    assert path.read_text() == rules.FILES[path](), "run `make settings`"


@pytest.mark.parametrize("query", [one.query for one in (*RECORDED, *ALERTS)])
def test_rules_ask_for_metrics_that_are_made(query):
    for name in _METRIC.findall(query):
        assert re.sub(r"_(bucket|sum|count)$", "", name) in made(), name


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {alert.runbook for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_runbook_says_what_it_means_how_to_look_and_what_to_do(alert):
    text = (RUNBOOKS / f"{alert.runbook}.md").read_text()
    assert text.startswith(f"# {alert.name}\n")
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads == ["What it means", "How to look", "What to do"]
    assert "```sh" in text.split("## How to look")[1].split("## What to do")[0]
