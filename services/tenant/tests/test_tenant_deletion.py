"""Deleting a tenant leaves its tombstone and nothing else; retention reaches the gateway with the sources."""

from __future__ import annotations

import grpc
import pytest
import sqlalchemy as sa
from trunkline.common.v1 import purge_pb2, speech_pb2
from trunkline.tenant.v1 import (
    source_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
)
from trunkline_runtime.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from trunkline_tenant.schema import metadata

NAME = "tenants/acme"
DELETED = tenant_pb2.TENANT_STATE_DELETED


def delete(who, **fields):
    return who.DeleteTenant(tenant_service_pb2.DeleteTenantRequest(name=NAME, **fields))


def get(who):
    return who.GetTenant(tenant_service_pb2.GetTenantRequest(name=NAME))


async def purge(suite):
    while True:
        answer = await suite.gateway.PurgeTenant(purge_pb2.PurgeTenantRequest(name=NAME))
        if not answer.more:
            return


async def filled(suite):
    """A tenant with something in every table."""
    key = await suite.api_key()
    source = await suite.source(request_id="r-1")
    for n in range(5):
        await suite.record(
            f"e{n}", 1000 + n, aliases=[f"CAL{n}"], provider_call_id=f"CAL{n}", caller_number="+15550001111",
            mask=["caller_number"],
        )  # fmt: skip
    return key, source


async def mentions(suite):
    """Every table that holds the tenant's id in any column."""

    def look(conn):
        found = set()
        for table in metadata.sorted_tables:
            for row in conn.execute(sa.select(table)):
                if any("acme" in str(value) for value in row):
                    found.add(table.name)
        return found

    return await suite.app.db.read(look)


async def test_a_tenant_with_data_is_deleted_only_by_force(suite, raised):
    await filled(suite)
    assert await mentions(suite) >= {"tenants", "sources", "calls", "leads", "api_keys", "requests"}
    refused = await raised(delete(suite.operator))
    assert (type(refused), refused.reason) == (FailedPrecondition, "TENANT_HAS_DATA")
    assert isinstance(await raised(delete(suite.operator, force=True, etag="old")), Aborted)
    assert (await get(suite.operator)).state == tenant_pb2.TENANT_STATE_ACTIVE


async def test_who_wants_its_id_again_is_told_that_it_was_deleted_and_rests(suite, raised):
    taken = await raised(suite.tenant())
    assert (type(taken), taken.reason, taken.message) == (
        AlreadyExists, "ALREADY_EXISTS", f"{NAME} exists already",
    )  # fmt: skip
    deleted = await delete(suite.operator)
    taken = await raised(suite.tenant())
    when = deleted.delete_time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (type(taken), taken.reason) == (AlreadyExists, "TENANT_DELETED")
    assert taken.message.startswith(f"{NAME} was deleted at {when}; its id cannot be used again")
    assert taken.metadata == {"resource": NAME, "delete_time": when}


async def test_after_the_purge_nothing_names_it_but_the_tombstone(suite):
    await filled(suite)
    deleted = await delete(suite.operator, force=True)
    assert (deleted.state, deleted.display_name) == (DELETED, "")
    assert deleted.HasField("delete_time")
    assert not deleted.HasField("purge_time")
    await purge(suite)
    confirm = tenant_service_pb2.ConfirmPurgeRequest(name=NAME)
    assert (await suite.gateway.ConfirmPurge(confirm)).HasField("purge_time")
    assert await mentions(suite) == {"tenants"}
    again = await delete(suite.operator)
    assert again == await get(suite.operator), "deleting twice changes nothing"


async def test_its_sources_vanish_from_a_watch_and_its_keys_are_refused(suite, raised):
    key, source = await filled(suite)
    gone = await suite.source()
    await suite.operator.DeleteSource(source_service_pb2.DeleteSourceRequest(name=gone.name))
    seen = await changes(suite, 0)
    await delete(suite.operator, force=True)
    told = await changes(suite, seen[-1].revision)
    bare = {name.rsplit("/", 1)[1] for name in (source.name, gone.name)}
    assert {change.deleted_source_id for change in told[:-1]} == bare
    assert [change.WhichOneof("change") for change in await changes(suite, 0)] == ["caught_up"]
    resolve = source_service_pb2.ResolveSourceRequest(source_id=source.name.rsplit("/", 1)[1])
    assert isinstance(await raised(suite.gateway.ResolveSource(resolve)), NotFound)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await get(suite.key(key.key))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def changes(suite, after):
    told = []
    request = source_service_pb2.WatchSourcesRequest(after_revision=after)
    call = suite.gateway.WatchSources(request)
    async for message in call:
        told.append(message)
        if message.WhichOneof("change") == "caught_up":
            call.cancel()
            return told
    raise AssertionError("the watch ended")


async def test_a_tombstone_is_no_tenant_any_more(suite, raised):
    await filled(suite)
    await delete(suite.operator, force=True)
    assert isinstance(await raised(suite.record("late", 2000, aliases=["CAL9"])), NotFound)
    assert isinstance(await raised(suite.source()), NotFound)
    assert isinstance(await raised(suite.api_key()), NotFound)
    update = tenant_service_pb2.UpdateTenantRequest(
        tenant=tenant_pb2.Tenant(name=NAME, state=tenant_pb2.TENANT_STATE_ACTIVE)
    )
    assert isinstance(await raised(suite.operator.UpdateTenant(update)), NotFound)
    listed = await suite.operator.ListTenants(tenant_service_pb2.ListTenantsRequest())
    assert list(listed.tenants) == []
    with pytest.raises(grpc.aio.AioRpcError) as taken:
        await suite.tenant("acme")
    assert taken.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_the_gateways_word_makes_a_tombstone_of_what_a_backup_brought_back(suite, raised):
    await filled(suite)
    await purge(suite)  # the gateway has the tombstone, this store was restored from before it
    assert (await get(suite.operator)).state == DELETED
    assert await mentions(suite) == {"tenants"}
    tombstones = await suite.gateway.ListTombstones(tenant_service_pb2.ListTombstonesRequest())
    assert [t.tenant_id for t in tombstones.tombstones] == ["acme"]
    name = "tenants/never-seen"
    await suite.gateway.PurgeTenant(purge_pb2.PurgeTenantRequest(name=name))
    with pytest.raises(grpc.aio.AioRpcError):
        await suite.tenant("never-seen")


async def test_another_tenant_keeps_everything(suite):
    await filled(suite)
    await suite.tenant("other")
    source = await suite.source("other")
    name = (await suite.record("e1", 1000, tenant="other", aliases=["CAL1"])).name
    call = await suite.get_call(name)
    await delete(suite.operator, force=True)
    await purge(suite)
    assert (await suite.operator.GetSource(source_service_pb2.GetSourceRequest(name=source.name))).name
    assert await suite.get_call(name) == call


async def test_only_operators_delete_and_only_the_gateway_purges(suite, raised):
    key = suite.key((await suite.api_key()).key)
    for who in (key, suite.audio):
        assert isinstance(await raised(delete(who, force=True)), PermissionDenied)
    for who in (suite.operator, key, suite.audio):
        purging = who.PurgeTenant(purge_pb2.PurgeTenantRequest(name=NAME))
        assert isinstance(await raised(purging), PermissionDenied)


async def test_a_state_cannot_be_set_to_deleted(suite, raised):
    update = tenant_service_pb2.UpdateTenantRequest(tenant=tenant_pb2.Tenant(name=NAME, state=DELETED))
    assert isinstance(await raised(suite.operator.UpdateTenant(update)), InvalidArgument)


async def test_a_tenants_retention_reaches_the_gateway_with_its_sources(suite):
    source = await suite.source()
    before = await changes(suite, 0)
    retention = tenant_pb2.Retention(events_days=30, recordings_days=7)
    changed = await suite.operator.UpdateTenant(
        tenant_service_pb2.UpdateTenantRequest(tenant=tenant_pb2.Tenant(name=NAME, retention=retention))
    )
    assert changed.retention == (await get(suite.operator)).retention == retention
    told = await changes(suite, before[-1].revision)
    assert told[0].upserted.source.name == source.name
    assert told[0].upserted.retention == retention


SPEECH = speech_pb2.SpeechSettings(engine="google", phrases=["Cedar Lane", "Mister Okafor"])


def settings_update(speech):
    tenant = tenant_pb2.Tenant(name=NAME, speech_settings=speech)
    return tenant_service_pb2.UpdateTenantRequest(tenant=tenant, update_mask={"paths": ["speech_settings"]})


async def test_a_tenants_speech_settings_reach_the_gateway_with_its_sources(suite):
    await suite.source()
    before = await changes(suite, 0)
    assert (await suite.operator.UpdateTenant(settings_update(SPEECH))).speech_settings == SPEECH
    assert (await changes(suite, before[-1].revision))[0].upserted.speech_settings == SPEECH
    unset = await suite.operator.UpdateTenant(settings_update(speech_pb2.SpeechSettings()))
    assert not unset.HasField("speech_settings")
    assert unset == await suite.operator.UpdateTenant(settings_update(speech_pb2.SpeechSettings()))


@pytest.mark.parametrize(
    "speech",
    [
        speech_pb2.SpeechSettings(phrases=["a" * 101]),
        speech_pb2.SpeechSettings(phrases=["a"] * 501),
        speech_pb2.SpeechSettings(phrases=["a" * 100] * 101),
        speech_pb2.SpeechSettings(engine="goo gle"),
    ],
    ids=["a long phrase", "many phrases", "10,100 characters", "no name of an engine"],
)
async def test_speech_settings_are_bounded(suite, raised, speech):
    error = await raised(suite.operator.UpdateTenant(settings_update(speech)))
    assert isinstance(error, InvalidArgument)
    assert "speech_settings" in error.message


async def test_a_mask_can_name_one_setting_and_leaves_the_others(suite):
    async def changed(*paths, **fields):
        tenant = tenant_pb2.Tenant(name=NAME, **fields)
        request = tenant_service_pb2.UpdateTenantRequest(tenant=tenant, update_mask={"paths": paths})
        return await suite.operator.UpdateTenant(request)

    both = tenant_pb2.Retention(events_days=90, recordings_days=30)
    await changed("speech_settings", "retention", speech_settings=SPEECH, retention=both)
    other = speech_pb2.SpeechSettings(engine="whisper")
    made = await changed("speech_settings.engine", speech_settings=other)
    assert (made.speech_settings.engine, list(made.speech_settings.phrases)) == (
        "whisper",
        list(SPEECH.phrases),
    )
    made = await changed(
        "speech_settings.phrases",
        "retention.events_days",
        speech_settings=speech_pb2.SpeechSettings(phrases=["a"]),
    )
    assert (made.speech_settings.engine, list(made.speech_settings.phrases)) == ("whisper", ["a"])
    assert (made.retention.events_days, made.retention.recordings_days) == (0, 30)
    with pytest.raises(grpc.RpcError, match=r"allowed: .*speech_settings\.phrases"):
        await changed("speech_settings.words")


async def test_a_tombstone_names_nobody(suite):
    await suite.operator.UpdateTenant(settings_update(SPEECH))
    await suite.operator.DeleteTenant(tenant_service_pb2.DeleteTenantRequest(name=NAME, force=True))
    assert not (await get(suite.operator)).HasField("speech_settings")
