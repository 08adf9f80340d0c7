"""The commands of every runbook work as they are written, against the running suite."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from trunkline_cli.suite import processes, web

from tests.e2e.conftest import World
from tests.e2e.documented import ROOT, Shell, commands

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
PORTS = {service: port for service, (_, _, port) in processes.PORTS.items()}
# Metrics that a suite shows only once something has gone wrong, or only with the engines of others.
WHERE_IT_HAPPENED = {
    "ai trunkline_breaker_state",
    "trunkline_rpc_server_in_flight",
    "trunkline_ai_analysis_seconds",
    "trunkline_audio_expired_total",
    "trunkline_audio_fetch_failures_total",
    "trunkline_audio_sound_seconds_total",
    "trunkline_audio_transcription_seconds",
    "trunkline_engine_audio_seconds_total",
    "trunkline_engine_cost_micros_total",
    "trunkline_engine_passed_over_total",
    "trunkline_engine_tokens_total",
    "trunkline_rates_total",
    "trunkline_refused_total",
    "trunkline_set_aside_total",
    "trunkline_source_bad_signatures_total",
    "trunkline_source_last_webhook_seconds",
    "trunkline_source_webhooks_total",
    "trunkline_spool_damaged_total",
    "trunkline_spool_drained_total",
    "trunkline_spooled_total",
    "trunkline_api_requests_total",
    "trunkline_stage_seconds",
    "trunkline_worker_jobs_total",
}
_LOOK = re.compile(r"curl -s http://127\.0\.0\.1:(\d+)/metrics \| grep -E '\^(.*)'")


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_its_commands_find_what_they_look_for(world: World, tmp_path, runbook):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    # A worker says that it is ready from its first answered claim on, which may wait for a job.
    world.wait(lambda: web.get(f"{world.suite.metrics_url('worker')}/readyz").is_success, "the worker")
    lines = "".join(block.text for block in commands(runbook)).splitlines()
    # A series that isn't there yet is no fault of the command; that its process declares it is looked at instead.
    script = "\n".join(line for line in lines if not _only_where_it_happened(line)) + "\n"
    for service, port in PORTS.items():
        script = re.sub(rf"127\.0\.0\.1:{port}\b", world.suite.metrics[service], script)
    assert Shell(tmp_path).run(script, {}) or "curl" not in script


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_each_metric_is_shown_by_the_process_that_is_asked(world: World, runbook):
    for line in "".join(block.text for block in commands(runbook)).splitlines():
        assert "/metrics" not in line or _LOOK.fullmatch(line), f"comment lines must not match: {line}"
    for port, name in looked_for(runbook):
        service = next(service for service, own in PORTS.items() if own == port)
        told = web.get(f"{world.suite.metrics_url(service)}/metrics").text
        assert f"# HELP {name} " in told, f"{service} has no {name}"
        if not {name, f"{service} {name}"} & WHERE_IT_HAPPENED:
            assert re.search(rf"^{name}(_count|_total)?[ {{]", told, re.MULTILINE), f"{name} has no series"


def looked_for(runbook: Path) -> list[tuple[int, str]]:
    """The ports that a runbook asks, each with the metrics that it looks for there."""
    found = _LOOK.findall("".join(block.text for block in commands(runbook)))
    return [(int(port), name) for port, pattern in found for name in _names(pattern)]


def _names(pattern: str) -> list[str]:
    """The metrics of a pattern such as `(trunkline_a|trunkline_b_(c|d))`."""
    names = []
    for name in re.findall(r"trunkline_[a-z0-9_]+(?:\([a-z_|]+\)[a-z_]*)?", pattern):
        head, _, rest = name.partition("(")
        ends, _, tail = rest.partition(")")
        names += [head + end + tail for end in ends.split("|")] if rest else [name]
    return sorted({re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", name) for name in names})


def _only_where_it_happened(line: str) -> bool:
    found = _LOOK.fullmatch(line)
    return found is not None and set(_names(found[2])) <= WHERE_IT_HAPPENED
