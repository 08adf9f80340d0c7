"""An engine or a service is down: what can be answered is, says so, and is made whole without a restart."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from trunkline_cli.suite import web, webhooks
from trunkline_cli.suite.seed import api

from tests.e2e.conftest import CALLS, World


@pytest.fixture(scope="module")
def world(standins: World) -> World:
    """The suite of stand-ins with a tenant of its own."""
    tenant = standins.seed("degraded")
    return World(standins.suite, standins.recordings, [tenant])


def post_call(world: World, event_type: str = "post_call") -> webhooks.Webhook:
    call_id = world.call_id()
    for name in (call_id, f"CAL{call_id}"):
        world.recordings.files[name] = CALLS / "silence.wav"
    source = world.tenants[0].source("callrail")
    payload = webhooks.callrail_call(source, call_id, recorded=event_type == "post_call")
    return webhooks.callrail(source, event_type, payload)


def runs(world: World, outcome: str) -> float:
    """How many runs of jobs the worker has ended that way."""
    text = web.get(f"http://{world.suite.metrics['worker']}/metrics").text
    wanted = f'trunkline_worker_jobs_total{{outcome="{outcome}"}}'
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(wanted))


def attempts(world: World, event: str) -> set[int]:
    """The numbers of the attempts that an event's job was worked on at."""
    with closing(sqlite3.connect(world.suite.folder / "gateway.db")) as store:
        query = "select history from jobs where subject = ?"
        (history,) = store.execute(query, (event.rsplit("/", 1)[1],)).fetchone()
    return {entry["attempt"] for entry in json.loads(history)}


def forged(webhook: webhooks.Webhook) -> dict[str, str]:
    return {**webhook.headers, "signature": "AAAA" + webhook.headers["signature"][4:]}


def test_a_call_analysed_without_the_engine_says_so_and_is_analysed_again(world):
    tenant, down = world.tenants[0], world.suite.folder / "engine.down"
    down.touch()
    try:
        receipt = world.post(post_call(world)).json()["receiptId"]
        name = world.event_of(tenant, receipt)["name"]

        def degraded() -> dict[str, Any] | None:
            event = world.get(tenant, name).raise_for_status().json()
            call = world.get(tenant, event["call"]).json() if event.get("call") else {}
            return call if call.get("degraded") else None

        call = world.wait(degraded, "the local engine's answer")
        before = runs(world, "wait")
        world.wait(lambda: runs(world, "wait") > before, "another look at the engine")
        event = world.get(tenant, name).json()
        assert event["state"] in ("EVENT_STATE_WAITING", "EVENT_STATE_PROCESSING")
        assert "ANALYSIS_DEGRADED" in str(event["history"])
        analysis = world.get(tenant, call["analysis"]).raise_for_status().json()
    finally:
        down.unlink()
    assert analysis["engine"].startswith("local/")
    event = world.finished(tenant, receipt)
    healed = world.get(tenant, event["call"]).raise_for_status().json()
    assert not healed.get("degraded")
    assert healed["name"] == call["name"]
    assert healed["analysis"] == call["analysis"]
    assert world.get(tenant, call["analysis"]).json()["engine"] == "failing/standin"


def test_while_the_tenant_service_is_down_calls_wait_and_spend_no_attempt(world):
    tenant = world.tenants[0]
    first = world.post(post_call(world)).json()["receiptId"]
    world.finished(tenant, first)
    before = runs(world, "wait")
    world.suite.kill("tenant")
    answers = [world.post(post_call(world, kind)) for kind in ("post_call", "pre_call", "post_call")]
    assert {answer.status_code for answer in answers} == {202}
    webhook = post_call(world)
    wrong = web.post(webhook.url, content=webhook.body, headers=forged(webhook))
    assert wrong.status_code == 401, "known sources are verified as ever"
    world.wait(lambda: runs(world, "wait") >= before + 6, "every call to be tried and to wait")
    world.suite.start("tenant")
    for answer in answers:
        event = world.finished(tenant, answer.json()["receiptId"])
        waits = [run for run in event["history"] if run["outcome"] == "wait"]
        assert waits
        assert attempts(world, event["name"]) == {1}, "waiting costs nothing"
        assert world.get(tenant, event["call"]).status_code == 200


def test_sources_last_known_serve_a_gateway_that_starts_alone(world):
    tenant = world.tenants[0]
    world.suite.stop("gateway")
    world.suite.kill("tenant")
    world.suite.start("gateway")
    webhook = post_call(world, "pre_call")
    assert web.post(webhook.url, content=webhook.body, headers=forged(webhook)).status_code == 401
    answer = world.post(webhook)
    assert answer.status_code == 202
    world.suite.start("tenant")
    world.finished(tenant, answer.json()["receiptId"])


def test_what_nobody_can_verify_is_kept_and_verified_later(world):
    tenant = world.tenants[0]
    world.suite.stop("gateway")
    world.suite.kill("tenant")
    (world.suite.folder / "gateway.sources").unlink()
    world.suite.start("gateway")
    webhook, lie = post_call(world, "pre_call"), post_call(world, "pre_call")
    answer = world.post(webhook)
    assert answer.status_code == 202
    assert web.post(lie.url, content=lie.body, headers=forged(lie)).status_code == 202
    world.suite.start("tenant")
    world.finished(tenant, answer.json()["receiptId"])
    with api(world.suite.http_url, tenant.api_key) as client:
        rejected = world.wait(
            lambda: [
                one
                for one in client.get(f"/v1/tenants/{tenant.name}/rejections").json().get("rejections", [])
                if one["reason"] and str(len(lie.body)) == str(one.get("sizeBytes"))
            ],
            "the forged one among the rejected",
        )
    assert rejected
