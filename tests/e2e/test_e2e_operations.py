"""Long operations through the real processes: they outlive the worker that waits and the service that works."""

from __future__ import annotations

import wave
from typing import Any

import httpx
import pytest
from trunkline_cli.suite import webhooks
from trunkline_cli.suite.seed import api

from tests.e2e.conftest import World


@pytest.fixture(scope="module")
def world(standins: World) -> World:
    """The suite of stand-ins with a tenant of its own."""
    tenant = standins.seed("lasting")
    return World(standins.suite, standins.recordings, [tenant])


def post_call(world: World) -> str:
    """Post a call whose recording is too long for one call of the audio service, and was never heard before."""
    call_id, file = world.call_id(), world.suite.folder / "long.wav"
    with wave.open(str(file), "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(call_id.encode() * 2 + bytes(2 * 8000 * 61))
    for name in (call_id, f"CAL{call_id}"):
        world.recordings.files[name] = file
    source = world.tenants[0].source("callrail")
    webhook = webhooks.callrail(source, "post_call", webhooks.callrail_call(source, call_id))
    receipt: str = world.post(webhook).json()["receiptId"]
    return receipt


def operations(world: World) -> list[dict[str, Any]]:
    answer = world.get(world.tenants[0], "tenants/lasting/operations").raise_for_status()
    found: list[dict[str, Any]] = answer.json()["operations"]
    return found


def begun(world: World) -> dict[str, Any] | None:
    """The latest operation, once somebody works on it."""
    found = operations(world)
    attempts = found[0]["metadata"]["progress"]["attempts"] if found and not found[0]["done"] else 0
    return found[0] if attempts else None


def asked(world: World, method: str, path: str, **more: Any) -> httpx.Response:
    with api(world.suite.http_url, world.tenants[0].api_key) as client:
        return client.request(method, f"/v1/{path}", timeout=40, **more)


@pytest.mark.timeout(180)
def test_a_transcription_survives_a_killed_worker_and_a_killed_audio_service(world: World) -> None:
    held, tenant = world.suite.folder / "engine.held", world.tenants[0]
    held.touch()
    receipt = post_call(world)
    operation = world.wait(lambda: begun(world), "an operation that is worked on")
    name = world.event_of(tenant, receipt)["name"]

    def noted() -> bool:
        story = world.get(tenant, name).raise_for_status().json()
        return operation["name"] in story["checkpoint"].values()

    world.wait(noted, "the operation's name in the checkpoint")
    world.suite.kill("worker")
    world.suite.kill("audio")
    world.suite.start("audio", "worker")
    held.unlink()
    event = world.finished(tenant, receipt)
    assert event["checkpoint"]["transcribe_operation"] == operation["name"]
    [ended] = operations(world)
    assert ended["name"] == operation["name"]
    assert ended["metadata"]["progress"]["attempts"] == 2, "the killed one, and the one after it"
    assert ended["response"]["transcript"] == event["checkpoint"]["transcribe"]
    transcripts = world.get(tenant, "tenants/lasting/transcripts").json()["transcripts"]
    assert [transcript["name"] for transcript in transcripts] == [ended["response"]["transcript"]]


@pytest.mark.timeout(180)
def test_the_stage_gives_its_slot_back_while_the_operation_goes_on(world: World) -> None:
    held, tenant = world.suite.folder / "engine.held", world.tenants[0]
    held.touch()
    receipt = post_call(world)
    name = world.event_of(tenant, receipt)["name"]

    def yielded() -> bool:
        story = world.get(tenant, name).raise_for_status().json()
        return any("OPERATION_RUNNING" in (entry.get("error") or "") for entry in story["history"])

    world.wait(yielded, "a run that gave its slot back")
    held.unlink()
    event = world.finished(tenant, receipt)
    assert "retry" not in {entry["outcome"] for entry in event["history"]}, "waiting spends no attempt"


def test_an_operation_is_started_followed_and_ended_over_http(world: World) -> None:
    held, tenant = world.suite.folder / "engine.held", world.tenants[0]
    world.finished(tenant, post_call(world))
    recording = world.get(tenant, "tenants/lasting/recordings").json()["recordings"][0]["name"]
    held.touch()
    try:
        body = {"generation": 7, "requestId": "again"}
        made = asked(world, "POST", f"{recording}:transcribe", json=body).raise_for_status().json()
        assert asked(world, "POST", f"{recording}:transcribe", json=body).json()["name"] == made["name"]
        waited = asked(world, "POST", f"{made['name']}:wait", json={"timeout": "0.2s"}).json()
        assert not waited["done"]
        assert asked(world, "POST", f"{made['name']}:cancel").status_code == 200
        ended = asked(world, "GET", made["name"]).json()
        assert (ended["done"], ended["error"]["code"]) == (True, 1)
        assert asked(world, "DELETE", made["name"]).status_code == 200
        assert asked(world, "GET", made["name"]).status_code == 404
    finally:
        held.unlink()
