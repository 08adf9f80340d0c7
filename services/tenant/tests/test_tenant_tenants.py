"""Tenants over gRPC: created once a request, changed by mask and etag, listed in pages."""

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from trunkline.common.v1 import analysis_settings_pb2
from trunkline.tenant.v1 import source_service_pb2, tenant_pb2, tenant_service_pb2


def update(*paths, name="tenants/acme", **fields):
    return tenant_service_pb2.UpdateTenantRequest(
        tenant=tenant_pb2.Tenant(name=name, **fields), update_mask=FieldMask(paths=paths)
    )


async def get(suite, name="tenants/acme"):
    return await suite.operator.GetTenant(tenant_service_pb2.GetTenantRequest(name=name))


async def test_a_new_tenant_is_active(suite):
    tenant = await get(suite)
    assert (tenant.name, tenant.display_name) == ("tenants/acme", "acme")
    assert tenant.state == tenant_pb2.TENANT_STATE_ACTIVE


async def test_a_repeated_create_returns_the_first_and_another_is_refused(suite, raised):
    first = await suite.tenant("beta", request_id="r1")
    assert await suite.tenant("beta", request_id="r1") == first
    error = await raised(suite.tenant("beta", request_id="r2"))
    assert error.code is grpc.StatusCode.ALREADY_EXISTS
    error = await raised(suite.tenant("beta"))
    assert error.code is grpc.StatusCode.ALREADY_EXISTS


async def test_a_request_id_with_other_content_is_refused(suite, raised):
    await suite.tenant("beta", request_id="r1")
    request = tenant_service_pb2.CreateTenantRequest(
        tenant_id="beta", tenant=tenant_pb2.Tenant(display_name="Another"), request_id="r1"
    )
    error = await raised(suite.operator.CreateTenant(request))
    assert error.reason == "REQUEST_ID_REUSED"
    assert error.violations[0][0] == "request_id"


async def test_a_request_id_is_forgotten_after_a_day(suite, raised):
    await suite.tenant("beta", request_id="r1")
    suite.clock.advance(25 * 3600)
    error = await raised(suite.tenant("beta", request_id="r1"))
    assert error.code is grpc.StatusCode.ALREADY_EXISTS


async def test_an_update_changes_what_the_mask_says_and_nothing_else(suite):
    before = await get(suite)
    suite.clock.advance(1)
    after = await suite.operator.UpdateTenant(update("display_name", display_name="Acme Inc", state=2))
    assert (after.display_name, after.state) == ("Acme Inc", tenant_pb2.TENANT_STATE_ACTIVE)
    assert after.etag != before.etag
    assert after.update_time.seconds == before.update_time.seconds + 1
    assert await get(suite) == after


async def test_an_update_without_a_mask_changes_what_is_set(suite):
    after = await suite.operator.UpdateTenant(update(state=tenant_pb2.TENANT_STATE_SUSPENDED))
    assert (after.display_name, after.state) == ("acme", tenant_pb2.TENANT_STATE_SUSPENDED)


async def test_an_update_that_changes_nothing_keeps_the_etag(suite):
    before = await get(suite)
    suite.clock.advance(1)
    assert await suite.operator.UpdateTenant(update("display_name", display_name="acme")) == before


async def test_an_old_etag_is_aborted(suite, raised):
    old = (await get(suite)).etag
    await suite.operator.UpdateTenant(update("display_name", display_name="A", etag=old))
    error = await raised(suite.operator.UpdateTenant(update("display_name", display_name="B", etag=old)))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


async def test_an_unknown_path_of_the_mask_is_named(suite, raised):
    error = await raised(suite.operator.UpdateTenant(update("display_name", "colour", display_name="A")))
    assert error.violations[0][0] == "update_mask"
    assert "'colour'" in error.message


async def test_a_tenant_is_never_without_a_name(suite, raised):
    request = tenant_service_pb2.CreateTenantRequest(tenant_id="beta", tenant=tenant_pb2.Tenant())
    for call in (suite.operator.CreateTenant(request), suite.operator.UpdateTenant(update("display_name"))):
        assert (await raised(call)).violations[0][0] == "tenant.display_name"


async def test_tenants_are_listed_by_id_in_pages(suite):
    for name in ("zeta", "beta", "gamma"):
        await suite.tenant(name)
    names, token = [], ""
    while True:
        page = await suite.operator.ListTenants(
            tenant_service_pb2.ListTenantsRequest(page_size=3, page_token=token)
        )
        names.append([t.name.removeprefix("tenants/") for t in page.tenants])
        token = page.next_page_token
        if not token:
            break
    assert names == [["acme", "beta", "gamma"], ["zeta"]]


async def test_a_key_sees_its_own_tenant_only(suite, raised):
    await suite.tenant("other")
    key = suite.key((await suite.api_key()).key)
    assert (await key.GetTenant(tenant_service_pb2.GetTenantRequest(name="tenants/acme"))).name
    error = await raised(key.GetTenant(tenant_service_pb2.GetTenantRequest(name="tenants/other")))
    assert error.code is grpc.StatusCode.NOT_FOUND
    missing = await raised(key.GetTenant(tenant_service_pb2.GetTenantRequest(name="tenants/nobody")))
    assert error.message.replace("other", "X") == missing.message.replace("nobody", "X")


async def test_a_tenants_plan_says_its_quotas_and_only_operators_change_it(suite, raised):
    tenant = await get(suite)
    assert tenant.plan == tenant_pb2.PLAN_STANDARD
    assert tenant.quotas.sources == 200
    source = await suite.source()
    request = tenant_service_pb2.UpdateTenantRequest(
        tenant=tenant_pb2.Tenant(name=tenant.name, plan=tenant_pb2.PLAN_TRIAL),
        update_mask=FieldMask(paths=["plan"]),
    )
    changed = await suite.operator.UpdateTenant(request)
    assert (changed.plan, changed.quotas.sources) == (tenant_pb2.PLAN_TRIAL, 10)
    asked = source_service_pb2.ResolveSourceRequest(source_id=source.name.rpartition("/")[2])
    resolved = await suite.gateway.ResolveSource(asked)
    assert resolved.quotas == changed.quotas
    assert resolved.quotas.receipts_bytes == 1 << 30
    for _ in range(9):
        await suite.source()
    error = await raised(suite.source())
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.reason == "SOURCES_QUOTA"
    assert "10 sources" in error.message
    wrong = tenant_pb2.Tenant(name=tenant.name, quotas=tenant_pb2.Quotas(sources=9))
    mask = FieldMask(paths=["quotas"])
    error = await raised(
        suite.operator.UpdateTenant(tenant_service_pb2.UpdateTenantRequest(tenant=wrong, update_mask=mask))
    )
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_change_of_plan_reaches_who_watches_sources(suite):
    source = await suite.source()
    seen = suite.gateway.WatchSources(source_service_pb2.WatchSourcesRequest())
    async for message in seen:
        if message.caught_up:
            break
    request = tenant_service_pb2.UpdateTenantRequest(
        tenant=tenant_pb2.Tenant(name="tenants/acme", plan=tenant_pb2.PLAN_LARGE),
        update_mask=FieldMask(paths=["plan"]),
    )
    await suite.operator.UpdateTenant(request)
    async for message in seen:
        if message.HasField("upserted"):
            assert message.upserted.source.name == source.name
            assert message.upserted.quotas.sources == 2_000
            break


def named(*names, part="labels"):
    settings = analysis_settings_pb2.AnalysisSettings(**{part: [{"name": name} for name in names]})
    return update(f"analysis_settings.{part}", analysis_settings=settings)


async def test_the_names_of_labels_are_kept_without_space_around_them_and_composed(suite):
    tenant = await suite.operator.UpdateTenant(named(" asks twice ", "cafe\u0301"))
    assert [one.name for one in tenant.analysis_settings.labels] == ["asks twice", "caf\u00e9"]


@pytest.mark.parametrize("part", ["labels", "keywords"])
@pytest.mark.parametrize(
    ("names", "field", "told"),
    [
        ((" ",), "[0].name", "must have a character that can be seen"),
        (("b", "a\u200b"), "[1].name", "must have no invisible characters"),
        (("a\u00a0b",), "[0].name", "must have no invisible characters"),
        (("a\u202eb",), "[0].name", "must have no invisible characters"),
        (("\u3164",), "[0].name", "must have no invisible characters"),
        (("\u0958" * 60,), "[0].name", "must be at most 60 characters"),
        (("a", "a "), "", "must have names that differ"),
    ],
)
async def test_names_that_look_alike_are_refused(suite, raised, part, names, field, told):
    error = await raised(suite.operator.UpdateTenant(named(*names, part=part)))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.violations == ((f"tenant.analysis_settings.{part}{field}", told),)
