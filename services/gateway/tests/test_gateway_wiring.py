"""The wiring: what its parts share, what it closes, and what it leaves to whoever opened it."""

from __future__ import annotations

import asyncio

import pytest
from gateway_sources import Feed, resolved
from gateway_world import MIGRATIONS, body_of, make_config, new_file, nobody, opened
from trunkline_gateway import schema
from trunkline_gateway.app import build
from trunkline_gateway.pipeline import app as worker
from trunkline_gateway.pipeline.config import WorkerConfig
from trunkline_runtime.config import ConfigError
from trunkline_runtime.process.pace import Pace
from trunkline_runtime.testing import KEY_FOLDER
from trunkline_store import Database, FakeClock


async def post(gateway, body, source="s-1"):
    """Post a webhook without a signature; return its status."""
    path, sent = f"/hooks/{source}/post_call", []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "method": "POST", "query_string": b"", "headers": []}
    await gateway.receiver(scope, receive, send)
    return sent[0]["status"]


async def test_what_the_receiver_counts_the_admission_looks_at(tmp_path):
    async with opened(tmp_path, max_unverified=2) as world:
        world.feed.down = True
        waiting = world.gateway.limits.unverified
        assert [await post(world.gateway, body_of(n), f"s-{n}x") for n in range(3)] == [202, 202, 503]
        assert len(waiting.waiting()) == 2
        await world.admit()
        assert (waiting.waiting(), waiting.rows) == ([], 2)
        world.feed.down = False
        await world.admission.retry_undecided()
        assert waiting.rows == 0
        world.feed.down = True
        assert await post(world.gateway, body_of(4), "s-4x") == 202


async def test_a_refused_sender_is_held_back_at_the_wirings_own_pace(tmp_path):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    config = make_config(tmp_path, ceiling_per_second=1.0, ceiling_burst=1.0)
    pace = Pace(clock=lambda: 0.0, sleep=sleep)
    url = await new_file(tmp_path)
    async with (
        await Database.open(url, schema.metadata, migrations=MIGRATIONS) as db,
        build(config, db=db, feed=Feed(resolved()), tell_call=nobody, pace=pace) as gateway,
    ):
        assert [await post(gateway, b"{}") for _ in range(2)] == [401, 429]
        assert len(slept) == 1


async def test_the_store_it_opens_tells_the_time_it_is_given_and_is_closed(tmp_path):
    clock = FakeClock()
    config = make_config(tmp_path, store_url=await new_file(tmp_path))
    for _ in range(2):  # a second one opens the same file
        async with build(config, clock=clock, feed=Feed(), tell_call=nobody) as gateway:
            assert gateway.db.clock is clock


async def test_a_store_that_was_given_stays_open(tmp_path):
    async with opened(tmp_path) as world:
        async with build(make_config(tmp_path), db=world.db, feed=world.feed, tell_call=nobody):
            pass
        assert await world.rows(schema.events) == 0


async def test_a_worker_is_wired_without_anybody_to_work_for():
    stop = asyncio.Event()
    stop.set()
    config = WorkerConfig(keys=KEY_FOLDER, gateway_address="127.0.0.1:1", drain_seconds=0.0)
    async with worker.build(config, name="w-1") as parts:
        assert parts.name == "w-1"
        await asyncio.wait_for(parts.worker.run(stop), 10)
    with pytest.raises(ConfigError):
        async with worker.build(WorkerConfig(keys=KEY_FOLDER / "missing")):
            pass
