"""What an operator does over /v1: replay, accept what was rejected, purge, and delete a tenant for good."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from trunkline_cli.suite import webhooks
from trunkline_cli.suite.seed import SeededTenant, api, seed_tenant

from tests.e2e.conftest import World


@pytest.fixture(scope="module")
def operator(world: World) -> Iterator[httpx.Client]:
    with api(world.suite.http_url, world.suite.operator_token) as client:
        yield client


@pytest.fixture(scope="module")
def tenant(world: World) -> SeededTenant:
    """A tenant of its own: the last test deletes it."""
    return seed_tenant(world.suite.http_url, world.suite.operator_token, "doomed", world.recordings.url)


def post(world: World, tenant: SeededTenant, secret: str = "") -> httpx.Response:
    source = tenant.source("callrail")
    payload = webhooks.callrail_call(source, world.call_id(), recorded=False)
    signing = dataclasses.replace(source, secret=secret) if secret else source
    return world.post(webhooks.callrail(signing, "pre_call", payload))


def asked(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(f"/v1/{path}", json=body).raise_for_status().json()
    return answer


def test_a_done_event_is_replayed_by_force_and_done_again(world, operator, tenant):
    name = world.finished(tenant, post(world, tenant).json()["receiptId"])["name"]
    refused = operator.post(f"/v1/{name}:replay", json={})
    assert (refused.status_code, refused.json()["error"]["details"][0]["reason"]) == (400, "EVENT_DONE")
    assert asked(operator, f"{name}:replay", force=True)["generation"] == 1

    def again() -> dict[str, Any] | None:
        event = world.get(tenant, name).raise_for_status().json()
        return event if event["state"] == "EVENT_STATE_DONE" else None

    assert world.wait(again, "the replayed event")["generation"] == 1


def test_many_are_replayed_at_a_rate(world, operator, tenant):
    for _ in range(3):
        world.finished(tenant, post(world, tenant).json()["receiptId"])
    wanted = {"filter": "event_type = pre_call", "force": True}
    found = asked(operator, "tenants/doomed/events:replay", dryRun=True, **wanted)
    assert (found["state"], int(found["eventCount"])) == ("REPLAY_STATE_DRY_RUN", 4)
    started = asked(operator, "tenants/doomed/events:replay", ratePerSecond=100, **wanted)

    def ended() -> dict[str, Any] | None:
        replay = operator.get(f"/v1/{started['name']}").raise_for_status().json()
        return replay if replay["state"] == "REPLAY_STATE_DONE" else None

    assert world.wait(ended, "the replay")["replayedCount"] == "4"


def test_a_rejected_request_is_accepted_after_the_secret_was_corrected(world, operator, tenant):
    answer = post(world, tenant, secret="the-providers-real-secret")
    assert answer.status_code == 401

    def rejected() -> list[dict[str, Any]]:
        listed = operator.get("/v1/tenants/doomed/rejections").raise_for_status().json()
        return listed.get("rejections", [])

    (kept,) = world.wait(rejected, "the rejection")
    source = f"tenants/doomed/sources/{tenant.source('callrail').id}"
    asked(operator, f"{source}:rotateSecret", secret="the-providers-real-secret")

    def accepted() -> dict[str, Any] | None:
        answer = operator.post(f"/v1/{kept['name']}:accept", json={})
        return answer.json() if answer.status_code == 200 else None

    receipt_id = world.wait(accepted, "the watch to tell of the new secret")["receiptId"]
    assert world.finished(tenant, receipt_id)["name"]
    assert rejected() == []


def test_deleting_a_tenant_takes_force_and_ends_with_everything_removed(world, operator, tenant):
    assert operator.delete("/v1/tenants/doomed").status_code == 400
    deleted = operator.delete("/v1/tenants/doomed", params={"force": "true"}).raise_for_status().json()
    assert deleted["state"] == "TENANT_STATE_DELETED"

    def purged() -> dict[str, Any] | None:
        tombstone = operator.get("/v1/tenants/doomed").raise_for_status().json()
        return tombstone if "purgeTime" in tombstone else None

    world.wait(purged, "every service to have removed the tenant's data")
    assert operator.get("/v1/tenants/doomed/events").json().get("events", []) == []
    assert world.wait(lambda: post(world, tenant).status_code == 404, "the hook to be gone")
    assert operator.post("/v1/tenants?tenantId=doomed", json={"displayName": "x"}).status_code == 409
