"""After a tenant was deleted, no table and no blob of the four services names it but the tombstones."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest
import sqlalchemy as sa
from trunkline.ai.v1 import analysis_service_pb2, analysis_service_pb2_grpc
from trunkline.common.v1 import purge_pb2
from trunkline.tenant.v1 import (
    call_service_pb2_grpc,
    tenant_pb2,
    tenant_service_pb2_grpc,
)
from trunkline_audio.recordings import rows as audio_rows
from trunkline_gateway import schema
from trunkline_gateway.events.tenant_deletion import LEFT, PURGE
from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.intake.admission import ADMITTED
from trunkline_gateway.providers.base import Delivery
from trunkline_gateway.receipts import UNVERIFIED
from trunkline_jobs import Tasks
from trunkline_runtime.errors import NotFound, from_rpc_error

sys.path.insert(0, str(Path(__file__).parents[2] / "services" / "gateway" / "tests"))
import gateway_world

from tests.integration.deletion_suite import NOW, OTHER, TENANT, Suite, record

TOMBSTONES = {
    "tenant.tenants", "gateway.deleted_tenants", "audio.deleted_tenants", "ai.deleted_tenants",
    "gateway.tasks",  # which goes through what is left again
}  # fmt: skip
EVERYWHERE = {
    "tenant.tenants", "tenant.sources", "tenant.source_secrets", "tenant.source_changes", "tenant.api_keys",
    "tenant.requests", "tenant.calls", "tenant.call_aliases", "tenant.call_events", "tenant.leads",
    "gateway.kept_bytes", "gateway.receipts", "gateway.events", "gateway.event_receipts", "gateway.eventless_receipts",
    "gateway.rejections", "gateway.replays", "gateway.jobs", "gateway.jobs_turns",
    "gateway.tasks",
    "audio.recordings", "audio.transcripts", "audio.deleted_resources", "blobs", "ai.analyses",
}  # fmt: skip


@pytest.fixture
async def suite(tmp_path):
    async with AsyncExitStack() as stack:
        suite = await Suite(tmp_path).open(stack)
        await suite.fill(OTHER)
        await suite.fill(TENANT)
        yield suite


async def test_after_a_deletion_only_tombstones_name_the_tenant(suite):
    assert suite.mentions() == EVERYWHERE, "else the scan below would prove little"
    others = suite.mentions(OTHER) | {"gateway.tasks_turns"}
    counts = {table: await suite.world.rows(table) for table in (schema.events, schema.receipts)}
    await suite.delete()
    assert not (await suite.tombstone()).HasField("purge_time")
    await suite.purge()
    assert suite.mentions() == TOMBSTONES
    assert (await suite.tombstone()).HasField("purge_time")
    assert suite.mentions(OTHER) | {"gateway.tasks_turns"} == others
    for table, count in counts.items():
        assert await suite.world.rows(table) == count // 2, "the other tenant's are all there"


async def test_what_comes_late_is_dropped_and_counted(suite):
    world = suite.world
    source_id = next(s for s, r in world.feed.sources.items() if TENANT in r.source.name)
    mine = {"tenant": TENANT, "source": source_id}
    held = next(job for job in await world.claim(100) if TENANT in job.event)
    await world.receipt(gateway_world.body_of(1000), **mine)  # admission has not looked at it yet
    await suite.delete()
    await suite.purge()
    before = ADMITTED.labels("tenant_deleted")._value.get()
    await world.receipt(
        gateway_world.body_of(1001), **mine
    )  # from a gateway whose watch was cut off, or the spool
    await world.receipt(b"{}", verdict=UNVERIFIED, tenant="", source=source_id)
    await world.admit()
    assert ADMITTED.labels("tenant_deleted")._value.get() - before == 3
    known = source_of(world.feed.sources[source_id])
    world.rejections.keep(known, "post_call", Delivery(b"{}", {}, "https://x/", NOW), "wrong")
    await world.rejections.flush()
    assert await world.report(held, done={"call": f"tenants/{TENANT}/calls/c1"}) == [held.job_id]
    with pytest.raises(NotFound):
        await world.replay(held.event, force=True)
    with pytest.raises(NotFound):
        await world.replay_all(f"tenants/{TENANT}", force=True)
    with pytest.raises(NotFound):
        await suite.audio.keep(TENANT, 99)
    with pytest.raises(NotFound):
        await late_analysis(suite)
    with pytest.raises(grpc.RpcError) as refused:
        await suite.gateway(call_service_pb2_grpc.CallServiceStub, "RecordCall", record(TENANT, 9))
    assert isinstance(from_rpc_error(refused.value), NotFound)
    await suite.audio.blobs.delete_folder(audio_rows.blob_folder(TENANT), 10)
    assert suite.mentions() == TOMBSTONES


async def late_analysis(suite):
    parent = f"tenants/{TENANT}"
    request = analysis_service_pb2.AnalyzeCallRequest(parent=parent, call=f"{parent}/calls/c1", text="a leak")
    try:
        await suite.gateway(analysis_service_pb2_grpc.AnalysisServiceStub, "AnalyzeCall", request, "ai")
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


async def test_a_service_that_does_not_answer_is_asked_again_until_it_did(suite):
    await suite.delete()
    await suite.purge(ai_address="127.0.0.1:1")
    assert LEFT._value.get() == 1
    assert "ai.analyses" in suite.mentions()
    assert not (await suite.tombstone()).HasField("purge_time")
    await suite.purge()
    assert suite.mentions() == TOMBSTONES


async def test_what_is_left_of_a_tenant_is_looked_for_again_after_a_day(suite):
    await suite.delete()
    await suite.purge()
    tasks = Tasks(suite.world.db, schema.tasks)
    assert await suite.world.db.read(lambda conn: tasks.unsettled(conn, PURGE)) == 0
    suite.world.clock.advance(86_399)
    seen = sa.select(schema.tasks.c.visible_at).where(schema.tasks.c.kind == PURGE)
    due = await suite.world.db.read(lambda conn: conn.execute(seen).scalar_one())
    assert 0 <= (due - suite.world.clock.now()).total_seconds() <= 1


async def test_a_store_restored_from_before_the_deletion_is_purged_again(suite):
    """The gateway's tombstone alone is left: tenant, audio and ai came back from backups that knew the tenant."""
    await suite.delete()
    await suite.purge()
    for service, statement in (
        ("tenant", f"DELETE FROM tenants WHERE tenant_id = '{TENANT}'"),
        ("audio", "DELETE FROM deleted_tenants"),
        ("ai", "DELETE FROM deleted_tenants"),
    ):
        with sqlite3.connect(suite.folder / f"{service}.db") as conn:
            conn.execute(statement)
        conn.close()
    await suite.fill(TENANT, gateway=False)
    assert {"tenant.calls", "blobs", "ai.analyses"} <= suite.mentions()
    await suite.purge()  # as after a start
    assert suite.mentions() == TOMBSTONES
    assert (await suite.tombstone()).state == tenant_pb2.TENANT_STATE_DELETED


async def test_a_gateway_restored_from_before_the_deletion_learns_of_it(suite):
    await suite.delete()
    await suite.purge()
    await suite.world.db.write(lambda conn: conn.execute(schema.deleted_tenants.delete()))
    await suite.fill_gateway(TENANT, "s-restored")
    assert "gateway.events" in suite.mentions()
    await suite.purge()
    assert suite.mentions() == TOMBSTONES


async def test_only_the_gateway_may_have_a_service_purge(suite):
    request = purge_pb2.PurgeTenantRequest(name=f"tenants/{OTHER}")
    others = suite.mentions(OTHER)
    with pytest.raises(grpc.RpcError) as refused:
        await suite.operate(tenant_service_pb2_grpc.TenantServiceStub, "PurgeTenant", request)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert suite.mentions(OTHER) == others
