"""SIGTERM under load: whoever was let in is answered, leases are handed back, the process is gone within 10 s."""

from __future__ import annotations

import time
from typing import Any

import pytest
from trunkline_cli.suite import webhooks

from tests.e2e.conftest import CALLS, World
from tests.e2e.posting import assert_each_is_one_event, posting, reading

LIMIT_SECONDS = 10.0


def stop(world: World, name: str) -> float:
    """Stop one process; the seconds that it took."""
    began = time.monotonic()
    codes = world.suite.stop(name)
    assert codes == {name: 0}, world.suite.log_end(name)
    return time.monotonic() - began


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_gateway_that_is_stopped_under_load_answers_everyone_whom_it_let_in(world, keep_alive):
    with posting(world, senders=16, every_seconds=0.005, keep_alive=keep_alive) as told:
        world.wait(lambda: len(told.receipts) > 200, "load")
        seconds = stop(world, "gateway")
    world.suite.start("gateway")
    assert told.errors == told.refused == []
    assert told.turned_away == 16, "everyone who came later was turned away at the door"
    assert seconds < LIMIT_SECONDS
    assert_each_is_one_event(world, told)


def test_a_worker_that_is_stopped_under_load_hands_its_leases_back(world, samples):
    tenant, receipts = world.tenants[0], []
    source = tenant.source("callrail")
    for sample in (samples["wrong-number"], samples["silence"], samples["robocall"]):
        call_id = world.call_id()
        world.recordings.files[f"CAL{call_id}"] = world.recordings.files[call_id] = CALLS / sample["file"]
        payload = webhooks.callrail_call(source, call_id, number=sample["customer_phone"])
        receipts.append(world.post(webhooks.callrail(source, "post_call", payload)).json()["receiptId"])

    def leased(stage: str = "%") -> list[Any]:
        with reading(world.suite.folder / "gateway.db") as store:
            query = "SELECT job_id FROM jobs WHERE state = 'leased' AND stage LIKE ?"
            return store.execute(query, (stage,)).fetchall()

    world.wait(lambda: leased("transcribe"), "jobs that are worked on")
    seconds = stop(world, "worker")
    left = leased()
    world.suite.start("worker")
    assert seconds < LIMIT_SECONDS
    assert left == [], "no lease has to run out"
    for receipt in receipts:
        event = world.finished(tenant, receipt)
        assert {a["outcome"] for a in event["history"]} <= {"ok", "released", "wait"}, event["history"]
