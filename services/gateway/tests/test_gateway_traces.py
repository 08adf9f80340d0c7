"""A receipt's id is its trace's id, wherever the receipt goes; a replay has a trace of its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from gateway_world import opened
from prometheus_client import REGISTRY
from trunkline_gateway import ids, traces
from trunkline_gateway.hooks.traffic import MOST_SOURCES, Traffic
from trunkline_gateway.intake.spool import packed, unpacked
from trunkline_gateway.intake.spool_log import Frame, LogFile
from trunkline_gateway.pipeline.kind import MOST_TENANTS, WorkerMetrics
from trunkline_gateway.receipts import VERIFIED, NewReceipt
from trunkline_runtime.observe import tracing
from trunkline_work import Attempt, LeasedJob

STRANGERS = f"00-{'ab' * 16}-{'cd' * 8}-01"


class Recorder:
    """An exporter that samples everything and keeps what was recorded."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, dict[str, Any]]] = []
        self.edges: list[str] = []

    def samples(self, edge: str) -> bool:
        self.edges.append(edge)
        return True

    def record(self, name: str, kind: str, parent: Any, attributes: Any, times: Any, **more: Any) -> None:
        self.recorded.append((name, {"parent": parent, "attributes": attributes, "times": times, **more}))

    def shutdown(self) -> None:
        pass


@pytest.fixture
def recorder():
    made = Recorder()
    end = tracing.export(made)
    yield made
    end()


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as world:
        yield world


def receipt(receipt_id: str) -> NewReceipt:
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    return NewReceipt(receipt_id, "s-1", "acme", "post_call", now, VERIFIED, "", "", b"", b"{}")


def test_an_id_says_whether_its_trace_is_exported():
    plain, sampled = ids.receipt_id(), ids.receipt_id(True)
    assert len(plain) == len(sampled) == 32
    assert not traces.is_sampled(plain)
    assert traces.is_sampled(sampled)
    place = traces.place_of(sampled)
    assert tracing.incoming(place.traceparent) == place
    assert (place.trace_id, place.sampled) == (sampled, True)
    assert not traces.place_of(plain).sampled
    assert traces.place_of(ids.receipt_id(True)).span_id != place.span_id


def test_an_id_of_another_form_is_no_place_and_breaks_nothing():
    assert not traces.is_sampled("r1")
    assert tracing.incoming(traces.place_of("r1").traceparent) is None


def test_a_receipt_leaves_the_spool_with_its_trace():
    sampled = ids.receipt_id(True)
    frame = Frame(LogFile(None), 0, packed(receipt(sampled), 0))  # type: ignore[arg-type]
    assert unpacked(frame).receipt.receipt_id == sampled


def test_the_first_span_has_the_places_ids_and_links_its_senders(recorder):
    sampled = ids.receipt_id(True)
    exemplar = traces.received(receipt(sampled), 0.25, {"x": "y", "traceparent": STRANGERS})
    assert exemplar == {"trace_id": sampled}
    ((_, told),) = recorder.recorded
    assert told["itself"] == traces.place_of(sampled)
    assert told["linked"].trace_id == "ab" * 16
    began, ended = told["times"]
    assert ended - began == 250_000_000


@pytest.mark.parametrize("header", ["", "\xff\xfe", f"00-{'0' * 32}-{'0' * 16}-01"])
def test_a_senders_header_that_says_no_place_is_not_linked(recorder, header):
    traces.received(receipt(ids.receipt_id(True)), 0.1, {"traceparent": header})
    assert recorder.recorded[0][1]["linked"] is None


async def test_a_job_is_in_the_trace_of_its_receipt_and_a_replay_in_one_of_its_own(world, recorder):
    sampled = ids.receipt_id(True)
    name = await world.event(1, receipt_id=sampled)
    assert [(n, told["parent"]) for n, told in recorder.recorded] == [("admission", traces.place_of(sampled))]
    (job,) = await world.claim()
    assert (job.traceparent, job.replayed_traceparent) == (traces.place_of(sampled).traceparent, "")
    await world.bury(job)
    await world.replay(name)
    assert recorder.edges == ["replays"]
    (again,) = await world.claim()
    place = tracing.incoming(again.traceparent)
    assert place is not None
    assert place.sampled
    assert place.trace_id != sampled
    assert again.replayed_traceparent == job.traceparent
    await world.bury(again)
    await world.replay(name)
    (third,) = await world.claim()
    assert third.traceparent != again.traceparent
    assert third.replayed_traceparent == job.traceparent


async def test_without_an_exporter_no_trace_is_sampled(world):
    await world.event(1, receipt_id=ids.receipt_id(tracing.samples("hooks")))
    (job,) = await world.claim()
    place = tracing.incoming(job.traceparent)
    assert place is not None
    assert not place.sampled


def series(name: str) -> set[tuple[str, ...]]:
    (metric,) = (m for m in REGISTRY.collect() if m.name == name)
    return {tuple(sorted(s.labels.items())) for s in metric.samples}


def test_a_thousand_tenants_have_a_bounded_number_of_series():
    traffic, worker = Traffic(), WorkerMetrics("127.0.0.1:1")
    for lap in range(3):
        for n in range(1000):
            tenant = f"many-{n:04d}"
            for source in range(3):
                traffic.note(tenant, f"s-{n}-{source}")
            leased = LeasedJob(f"j{n}", lap, "event", tenant, "normalise", 1, None, None)
            worker.ended(Attempt(leased), ("done", "wait", "dead")[lap])

    def of_many(name: str) -> int:
        return sum("many-" in json.dumps(labels) for labels in series(name))

    assert 0 < of_many("trunkline_source_webhooks") <= MOST_SOURCES
    assert 0 < of_many("trunkline_source_last_webhook_seconds") <= MOST_SOURCES
    assert 0 < of_many("trunkline_tenant_jobs") <= 3 * MOST_TENANTS
    assert REGISTRY.get_sample_value(
        "trunkline_source_webhooks_total", {"tenant": "other", "source": "other"}
    )
    assert REGISTRY.get_sample_value("trunkline_tenant_jobs_total", {"tenant": "other", "outcome": "done"})
