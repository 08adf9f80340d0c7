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
        {'up{job="trunkline",instance="g"}': "0x30"},
        {'up{job="trunkline",instance="g"}': "1x30"},
        {"job": "trunkline", "instance": "g"},
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
        {'trunkline_spool_damaged_total{instance="g",what="files"}': "0x10 1x30"},
        {'trunkline_spool_damaged_total{instance="g",what="files"}': "1x40"},
        _AT_GATEWAY,
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
    "TrunklineDeadLettersGrow": Case(
        {"trunkline_dead_letters": "5x20 5+1x30"}, {"trunkline_dead_letters": "500x50"}, at="45m"
    ),
    "TrunklineRowsSetAside": Case(
        {'trunkline_set_aside_total{instance="g",work="admission"}': "0x10 1x30"},
        {'trunkline_set_aside_total{instance="g",work="admission"}': "3x40"},
        {"instance": "g", "work": "admission"},
    ),
    "TrunklineBreakerOpen": Case(
        {'trunkline_breaker_state{service="ai"}': "2x30"},
        {'trunkline_breaker_state{service="ai"}': "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 2 2 0x30"},
        {"service": "ai"},
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
        {_SENT: "0+5x24 120x1100", _LAST: "0+600x24"},
        {_SENT: "0+5x2000", _LAST: "0+600x2000"},
        {"tenant": "acme", "source": "s"},
        at="171h",
        interval="10m",
    ),
    "TrunklineRecordingsRefused": Case(
        {"trunkline_recording_refused_sources": "1x30"}, {"trunkline_recording_refused_sources": "0x30"}
    ),
    "TrunklineSignaturesRefused": Case(
        _answers(80, 20, "bad_signature"),
        _answers(95, 5, "bad_signature"),
        {"provider": "callrail"},
        at="40m",
    ),
}


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
        "exp_annotations": {"summary": alert.summary, "runbook": f"docs/runbooks/{alert.runbook}.md"},
    }
    return {
        "name": f"{name} {'fires' if fires else 'is quiet'}",
        "interval": case.interval,
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": [
            {"alertname": name, "eval_time": case.at, "exp_alerts": [expected] if fires else []}
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


@pytest.mark.parametrize("name", CASES)
def test_promtool_finds_that_it_fires_and_that_it_is_quiet(promtool, tmp_path, name):
    case = CASES[name]
    groups = groups_of(name, case.interval)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    tests = [unit(case, name, fires=True), unit(case, name, fires=False)]
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
