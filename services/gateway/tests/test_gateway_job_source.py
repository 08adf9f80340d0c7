"""JobService, over a real store and a real socket, is a source of jobs like any other."""

from __future__ import annotations

import itertools

import grpc
import pytest
from gateway_sources import resolved
from gateway_world import body_of, opened
from trunkline.gateway.v1 import job_service_pb2_grpc
from trunkline_gateway.pipeline.job_source import KIND, ServedJobs
from trunkline_runtime.errors import Unavailable
from trunkline_work import Slots
from trunkline_work.testing.conformance import CHECKS, LEASE_SECONDS

SOURCES = {"acme": "s-1", "globex": "s-2"}


class World:
    kind, stage = KIND, "normalise"

    def __init__(self, world, stub):
        self.world, self.stub = world, stub
        self.numbers = itertools.count()

    def source(self, worker):
        return ServedJobs(self.stub, worker, LEASE_SECONDS)

    async def add(self, tenant="acme"):
        await self.world.receipt(body_of(next(self.numbers)), source=SOURCES[tenant], tenant=tenant)
        await self.world.admit()

    def advance(self, seconds):
        self.world.clock.advance(seconds)


@pytest.fixture
async def world(tmp_path):
    other = resolved("s-2")
    other.source.name = "tenants/globex/sources/s-2"
    async with opened(tmp_path, resolved(), other) as world:
        server = grpc.aio.server()
        job_service_pb2_grpc.add_JobServiceServicer_to_server(world.jobs, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield World(world, job_service_pb2_grpc.JobServiceStub(channel))
        finally:
            await server.stop(0)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
async def test_conformance(world, check):
    await check(world)


async def test_a_gateway_that_stops_answers_at_once(world):
    world.world.jobs.stop()
    assert await world.source("w1").claim(Slots(4), 20.0) == []


async def test_a_gateway_that_is_away_is_an_error_of_the_domain():
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        source = ServedJobs(job_service_pb2_grpc.JobServiceStub(channel), "w1", LEASE_SECONDS)
        with pytest.raises(Unavailable):
            await source.claim(Slots(4), 0.0)
        with pytest.raises(Unavailable):
            await source.release()
