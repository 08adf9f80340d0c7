"""WatchSources over gRPC: a snapshot, then every change, from any revision, without a gap."""

import asyncio
import contextlib
from datetime import UTC, datetime

import grpc
import pytest
from trunkline.tenant.v1 import source_pb2, source_service_pb2, tenant_pb2, tenant_service_pb2
from trunkline_tenant import source_changes

from .conftest import make_config, running


class Watcher:
    def __init__(self, suite, after=0):
        self.call = suite.gateway.WatchSources(
            source_service_pb2.WatchSourcesRequest(after_revision=after), timeout=20
        )

    async def next(self):
        message = await asyncio.wait_for(self.call.read(), 5)
        assert message is not grpc.aio.EOF
        return message

    async def until_caught_up(self):
        told = []
        while True:
            message = await self.next()
            if message.WhichOneof("change") == "caught_up":
                return told, message.revision
            told.append(message)


@contextlib.contextmanager
def watching(suite, after=0):
    watcher = Watcher(suite, after)
    try:
        yield watcher
    finally:
        watcher.call.cancel()


def bare(source):
    return source.name.rpartition("/")[2]


async def delete(suite, source):
    await suite.operator.DeleteSource(source_service_pb2.DeleteSourceRequest(name=source.name))


async def test_a_snapshot_and_then_changes_as_they_happen(suite):
    first = await suite.source()
    with watching(suite) as watcher:
        told, revision = await watcher.until_caught_up()
        assert [m.upserted.source for m in told] == [first]
        assert told[0].upserted.secrets[0].value == "s3cret"
        second = await suite.source()
        message = await watcher.next()
        assert message.upserted.source == second
        assert message.revision == message.upserted.revision == revision + 1
        rotated = source_service_pb2.RotateSourceSecretRequest(name=first.name, secret="new")
        await suite.operator.RotateSourceSecret(rotated)
        assert [s.value for s in (await watcher.next()).upserted.secrets] == ["new", "s3cret"]
        await delete(suite, second)
        assert (await watcher.next()).deleted_source_id == bare(second)


async def test_suspending_a_tenant_closes_all_its_sources_and_no_others(suite):
    mine = {bare(await suite.source()) for _ in range(3)}
    await suite.tenant("other")
    await suite.source("other")
    with watching(suite) as watcher:
        _, revision = await watcher.until_caught_up()
        for state, accepting in (
            (tenant_pb2.TENANT_STATE_SUSPENDED, False),
            (tenant_pb2.TENANT_STATE_ACTIVE, True),
        ):
            tenant = tenant_pb2.Tenant(name="tenants/acme", state=state)
            await suite.operator.UpdateTenant(tenant_service_pb2.UpdateTenantRequest(tenant=tenant))
            told = [await watcher.next() for _ in range(3)]
            assert {bare(m.upserted.source) for m in told} == mine
            assert {m.upserted.accepting for m in told} == {accepting}
        assert told[-1].revision == revision + 6


async def test_a_watcher_that_comes_back_gets_only_what_it_missed(suite):
    await suite.source()
    gone = await suite.source()
    with watching(suite) as watcher:
        _, revision = await watcher.until_caught_up()
    new = await suite.source()
    await delete(suite, gone)
    with watching(suite, revision) as watcher:
        told, reached = await watcher.until_caught_up()
    assert [m.WhichOneof("change") for m in told] == ["upserted", "deleted_source_id"]
    assert (told[0].upserted.source, told[1].deleted_source_id) == (new, bare(gone))
    assert reached == revision + 2


async def test_a_snapshot_that_was_cut_off_goes_on_without_a_gap(suite):
    made = [bare(await suite.source()) for _ in range(5)]
    with watching(suite) as watcher:
        seen = [await watcher.next() for _ in range(2)]
    with watching(suite, seen[-1].revision) as watcher:
        rest, _ = await watcher.until_caught_up()
    assert [bare(m.upserted.source) for m in seen + rest] == made


async def test_a_snapshot_of_many_pages_is_whole(store_url):
    async with running(make_config(store_url), snapshot_page=2) as suite:
        await suite.tenant()
        made = {bare(await suite.source()) for _ in range(6)}
        with watching(suite) as watcher:
            told, _ = await watcher.until_caught_up()
    assert {bare(m.upserted.source) for m in told} == made


async def test_a_revision_of_the_future_starts_anew(suite):
    source = await suite.source()
    with watching(suite, 1000) as watcher:
        assert (await watcher.next()).reset
        told, revision = await watcher.until_caught_up()
    assert [m.upserted.source for m in told] == [source]
    assert revision == 1


async def test_a_revision_from_before_deletions_were_forgotten_starts_anew(suite):
    gone, kept, last = [await suite.source() for _ in range(3)]
    await delete(suite, gone)
    # On Spanner a change carries the commit's own time, which no clock of a test's moves.
    behind = max(0.0, (datetime.now(UTC) - suite.clock.now()).total_seconds())
    suite.clock.advance(behind + source_changes.DELETIONS_KEPT.total_seconds() + 1)
    await delete(suite, last)
    with watching(suite, 3) as watcher:
        assert (await watcher.next()).reset
        told, _ = await watcher.until_caught_up()
    assert [m.upserted.source for m in told] == [kept]
    with watching(suite, 4) as watcher:
        told, _ = await watcher.until_caught_up()
    assert [m.deleted_source_id for m in told] == [bare(last)]


async def test_another_replicas_change_is_seen_by_looking(store_url):
    async with running(make_config(store_url, watch_poll_seconds=0.05)) as suite:
        await suite.tenant()
        source = await suite.source()
        with watching(suite) as watcher:
            await watcher.until_caught_up()
            now = suite.clock.now()
            # Written beside the service, so no bell rings.
            await suite.app.db.write(lambda conn: source_changes.changed(conn, "acme", bare(source), now))
            assert (await watcher.next()).revision == 2


async def test_a_heartbeat_says_that_it_is_up_to_date(store_url):
    async with running(make_config(store_url, watch_poll_seconds=0.05, watch_heartbeat_seconds=0.1)) as suite:
        with watching(suite) as watcher:
            for _ in range(3):
                assert (await watcher.next()).caught_up


async def test_a_drain_ends_the_watches_instead_of_waiting_for_them(store_url):
    async with running(make_config(store_url, drain_seconds=30.0)) as suite:
        with watching(suite) as watcher:
            await watcher.until_caught_up()
            async with asyncio.timeout(5):
                await suite.app.server.stop()
            assert await watcher.call.read() is grpc.aio.EOF


@pytest.mark.parametrize("who", ["audio", "operator"])
async def test_only_the_gateway_watches(suite, raised, who):
    call = getattr(suite, who).WatchSources(source_service_pb2.WatchSourcesRequest())
    assert (await raised(call.read())).code is grpc.StatusCode.PERMISSION_DENIED


async def test_the_state_of_a_source_is_part_of_the_watch(suite):
    source = await suite.source()
    with watching(suite) as watcher:
        await watcher.until_caught_up()
        wanted = source_pb2.Source(name=source.name, state=source_pb2.SOURCE_STATE_DISABLED)
        await suite.operator.UpdateSource(source_service_pb2.UpdateSourceRequest(source=wanted))
        assert not (await watcher.next()).upserted.accepting
