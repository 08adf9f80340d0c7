"""One trace spans a webhook up to its recorded call, over all processes; it tells nothing that was said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from trunkline_cli.suite import web, webhooks
from trunkline_cli.suite.processes import PORTS
from trunkline_cli.suite.seed import api

from tests.collector import Collector, Spanned
from tests.e2e.conftest import CALLS, World, running
from tests.e2e.test_e2e_store_down import locked, metric

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
STRANGERS = f"00-{'ab' * 16}-{'cd' * 8}-01"
PROCESSES = {"gateway", "worker", "tenant", "audio", "ai"}
# The words of these tests' calls. No span may have any of them.
TEXT = "what do you charge to clean a gutter"


class Traced(NamedTuple):
    """A suite that exports traces, and what it sends them to."""

    world: World
    collector: Collector


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    with Collector() as collector:
        settings = {f"TRUNKLINE_{name}_OTLP_ENDPOINT": collector.url for name, _, _ in PORTS.values()}
        settings |= {f"TRUNKLINE_{name}_LOG_FORMAT": "json" for name, _, _ in PORTS.values()}
        settings |= {
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "TRUNKLINE_AUDIO_ENGINE": "tests.standins.instant_audio:create",
            "TRUNKLINE_AI_ENGINE": "tests.standins.instant_ai:create",
            "TRUNKLINE_WORKER_LEASE_SECONDS": "2",
        }
        with running(tmp_path_factory.mktemp("traces"), settings) as world:
            world.seed("traced")
            yield Traced(world, collector)


def recorded(world: World, file: str = "silence.wav", number: str = "+15555550142") -> webhooks.Webhook:
    """A webhook of a call with a recording."""
    call_id = world.call_id()
    for name in (call_id, f"CAL{call_id}"):
        world.recordings.files[name] = CALLS / file
    source = world.tenants[0].source("callrail")
    payload = webhooks.callrail_call(source, call_id, number=number, note=TEXT)
    return webhooks.callrail(source, "post_call", payload)


def names(spans: list[Spanned], service: str) -> list[str]:
    return [span.name for span in spans if span.service == service]


def whole(spans: list[Spanned]) -> bool:
    """Whether all of a trace is there: each process sends its spans when it is time."""
    return (
        {s.service for s in spans} == PROCESSES and joined(spans) and "admission" in names(spans, "gateway")
    )


def joined(spans: list[Spanned]) -> bool:
    """Whether the worker's span is there, the first one, and of each of its calls both sides."""
    begun = [span for span in spans if not span.parent]
    parents = {span.parent for span in spans}
    calls = {s.span_id for s in spans if s.service == "worker" and s.name.startswith("trunkline.")}
    return bool(begun) and "event.process" in names(spans, "worker") and calls <= parents


def parent_of(spans: list[Spanned], span: Spanned) -> Spanned | None:
    return next((one for one in spans if one.span_id == span.parent), None)


def ancestors(spans: list[Spanned], span: Spanned) -> list[str]:
    found = []
    while (parent := parent_of(spans, span)) is not None:
        found.append(f"{parent.service} {parent.name}")
        span = parent
    return found


def test_a_webhook_and_its_call_are_one_trace_with_the_receipts_id(traced):
    world, collector = traced
    receipt = world.post(recorded(world)).json()["receiptId"]
    event = world.finished(world.tenants[0], receipt)
    spans = collector.wait(receipt, whole)
    (first,) = [span for span in spans if not span.parent]
    assert (first.service, first.name) == ("gateway", "POST /hooks/{source}/{event_type}")
    assert first.attributes["tenant"] == world.tenants[0].name
    orphans = [span.name for span in spans if span.parent and parent_of(spans, span) is None]
    assert orphans == []
    (work,) = [span for span in spans if span.name == "event.process"]
    assert parent_of(spans, work) == first
    assert work.attributes["event"] == event["name"].rsplit("/", 1)[1]
    (admission,) = [span for span in spans if span.name == "admission"]
    assert parent_of(spans, admission) == first
    above = ["worker event.process", "gateway POST /hooks/{source}/{event_type}"]
    for service, method, stage in (
        ("tenant", "trunkline.tenant.v1.CallService/RecordCall", "record"),
        ("audio", "trunkline.audio.v1.RecordingService/FetchRecording", "fetch_recording"),
        ("ai", "trunkline.ai.v1.AnalysisService/AnalyzeCall", "analyse"),
    ):
        served = [span for span in spans if (span.service, span.name) == (service, method)]
        lines = [ancestors(spans, span) for span in served]
        assert [f"worker {method}", f"worker stage.{stage}", *above] in lines, service
    assert not [span for span in spans if span.failed]


def test_no_span_has_words_numbers_or_credentials(traced):
    world, collector = traced
    receipt = world.post(recorded(world)).json()["receiptId"]
    world.finished(world.tenants[0], receipt)
    collector.wait(receipt, whole)
    source = world.tenants[0].source("callrail")
    secrets = (source.secret, source.credential, world.tenants[0].api_key, world.suite.operator_token)
    for span in collector.spans():
        for hidden in (*secrets, TEXT, "5555550142", "Bearer", "signature", "eyJ"):
            assert hidden not in span.text, span.name
        for key, value in span.attributes.items():
            assert key in {
                "tenant", "event", "attempt", "source", "event_type", "rpc.system", "rpc.service", "rpc.method",
                "rpc.grpc.status", "http.request.method", "http.route", "http.response.status_code",
            }, key  # fmt: skip
            assert not re.fullmatch(r"\+?\d{7,15}", str(value)), key


def test_a_recording_that_takes_long_stays_in_the_trace(traced):
    """Its transcription is an operation, kept in the audio service's own queue."""
    world, collector = traced
    webhook = recorded(world, "silence.wav")
    long = world.suite.folder / "long.wav"
    write_silence(long, seconds=70)
    for name in list(world.recordings.files):
        world.recordings.files[name] = long
    receipt = world.post(webhook).json()["receiptId"]
    world.finished(world.tenants[0], receipt)
    spans = collector.wait(receipt, whole)
    (operation,) = [span for span in spans if span.name.startswith("operation.")]
    starts = parent_of(spans, operation)
    assert starts is not None
    assert starts.name == "trunkline.audio.v1.TranscriptionService/TranscribeRecording"


def test_a_sender_that_is_in_a_trace_is_linked_and_does_not_join(traced):
    world, collector = traced
    source = world.tenants[0].source("callrail")
    webhook = webhooks.callrail(
        source, "post_call", webhooks.callrail_call(source, world.call_id(), recorded=False)
    )
    receipt = world.post(webhook, traceparent=STRANGERS).json()["receiptId"]
    spans = collector.wait(receipt, joined)
    (first,) = [span for span in spans if not span.parent]
    assert first.links == ["ab" * 16]
    with api(world.suite.http_url, world.tenants[0].api_key) as client:
        path = f"/v1/tenants/{world.tenants[0].name}/calls"
        client.get(path, headers={"traceparent": STRANGERS}).raise_for_status()

    def listed() -> Any:
        linked = [span for span in collector.spans() if span.links and span.name.endswith("/ListCalls")]
        return linked[0] if linked else None

    listing = world.wait(listed, "the span of a list")
    tenants = collector.wait(listing.trace_id, lambda found: names(found, "tenant"))
    assert "trunkline.tenant.v1.CallService/ListCalls" in names(tenants, "tenant")
    assert collector.trace("ab" * 16) == []


def test_a_replay_is_a_trace_of_its_own_that_is_linked_to_the_first(traced):
    world, collector = traced
    tenant = world.tenants[0]
    receipt = world.post(recorded(world)).json()["receiptId"]
    event = world.finished(tenant, receipt)
    with api(world.suite.http_url, tenant.api_key) as client:
        client.post(f"/v1/{event['name']}:replay", json={"force": True}).raise_for_status()
    event_id = event["name"].rsplit("/", 1)[1]

    def replayed() -> Any:
        runs = [s for s in collector.spans() if s.attributes.get("event") == event_id and s.links]
        return runs[0] if runs else None

    work = world.wait(replayed, "the replay's span")
    assert (work.name, work.links, work.parent) == ("event.process", [receipt], "")
    assert work.trace_id != receipt
    spans = collector.wait(work.trace_id, lambda found: joined(found) and "ai" in {s.service for s in found})
    assert not [span.name for span in spans if span.parent and parent_of(spans, span) is None]


def test_the_trace_goes_on_through_the_spool_a_crash_and_another_worker(traced):
    world, collector = traced
    webhook = recorded(world)
    world.suite.kill("worker")
    with locked(world.suite.folder / "gateway.db"):
        receipt = world.post(webhook).json()["receiptId"]
        world.wait(lambda: metric(world, "trunkline_spool_rows") > 0, "a receipt in the spool")
        collector.wait(receipt, lambda found: names(found, "gateway"))
        world.suite.kill("gateway")
    world.suite.start("gateway", "worker")
    world.finished(world.tenants[0], receipt)
    spans = collector.wait(receipt, whole)
    (first,) = [span for span in spans if not span.parent]
    (work,) = [span for span in spans if span.name == "event.process"]
    assert work.parent == first.span_id


def test_histograms_name_traces_that_were_exported_and_logs_do_too(traced):
    world, collector = traced
    receipt = world.post(recorded(world)).json()["receiptId"]
    world.finished(world.tenants[0], receipt)
    collector.wait(receipt, whole)
    for process, histogram in (
        ("gateway", "trunkline_receive_seconds"),
        ("worker", "trunkline_stage_seconds"),
        ("tenant", "trunkline_rpc_server_seconds"),
        ("ai", "trunkline_ai_analysis_seconds"),
        ("audio", "trunkline_audio_transcription_seconds"),
    ):
        url = f"{world.suite.metrics_url(process)}/metrics"
        answer = web.get(url, headers={"accept": OPENMETRICS})
        assert answer.headers["content-type"].startswith("application/openmetrics-text"), process
        told = re.findall(rf'^{histogram}_bucket.* # {{trace_id="([0-9a-f]{{32}})"}}', answer.text, re.M)
        assert told, process
        world.wait(lambda: set(told) <= {s.trace_id for s in collector.spans()}, f"traces of {process}")  # noqa: B023
        assert "trace_id" not in web.get(url).text, "the plain format has none"
    log = (world.suite.folder / "log" / "worker.log").read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert receipt in [line.get("trace_id") for line in lines if line["event"] == "event_done"]


PROMISES = {
    "acknowledge latency": ("gateway", "trunkline_receive_seconds_bucket{"),
    "spool depth": ("gateway", "trunkline_spool_rows "),
    "backlog by class": ("gateway", 'trunkline_jobs_waiting{class="realtime"}'),
    "age of the oldest job by class": ("gateway", 'trunkline_jobs_oldest_seconds{class="realtime"}'),
    "dead letters": ("gateway", "trunkline_dead_letters "),
    "stage durations": ("worker", 'trunkline_stage_seconds_sum{outcome="ok",stage="analyse"}'),
    "stage outcomes": ("worker", 'trunkline_stage_seconds_count{outcome="ok",stage="fetch_recording"}'),
    "breaker states": ("worker", 'trunkline_breaker_state{service="audio"}'),
    "cache hit rates": ("ai", "trunkline_ai_cache_lookups_total{"),
    "engine cost": ("ai", "trunkline_engine_cost_micros_total{"),
    "refusals by reason": ("gateway", 'trunkline_receipts_total{answer="bad_signature",provider="callrail"}'),
    "webhooks by source": ("gateway", "trunkline_source_webhooks_total{source="),
    "silence per source": ("gateway", "trunkline_source_last_webhook_seconds{source="),
}


def test_every_promise_has_its_metric(traced):
    world, _ = traced
    world.finished(world.tenants[0], world.post(recorded(world)).json()["receiptId"])
    assert world.post(recorded(world), signature="AAAA").status_code == 401
    pages = {name: web.get(f"{world.suite.metrics_url(name)}/metrics").text for name in PORTS}
    lacking = [
        f"{promise}: {series}"
        for promise, (process, series) in PROMISES.items()
        if not any(line.startswith(series) for line in pages[process].splitlines())
    ]
    assert lacking == []


def write_silence(path: Any, *, seconds: int) -> None:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16_000 * seconds))
