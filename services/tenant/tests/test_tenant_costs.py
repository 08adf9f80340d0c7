"""Costs over gRPC: each charge counts once, by engine, day and month, beside the tenant's budget."""

import asyncio
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import REGISTRY
from trunkline.common.v1 import usage_pb2
from trunkline.tenant.v1 import api_key_pb2, cost_pb2, cost_service_pb2, tenant_pb2, tenant_service_pb2
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_store.records.deletion import owners
from trunkline_tenant.costs.upkeep import Upkeep
from trunkline_tenant.schema import charges

from .conftest import As

VERTEX = "vertex/gemini-2.5-flash"


def charge(key, micros=0, at="2026-11-10T12:00:00Z", engine=VERTEX, unpriced=False, **usage):
    made = Timestamp()
    made.FromJsonString(at)
    used = usage_pb2.EngineUsage(cost_micros=micros, **usage)
    return cost_pb2.Charge(id=f"charge-{key}", engine=engine, usage=used, unpriced=unpriced, create_time=made)


def ai(suite):
    return As(suite.channel, TokenSigner(suite.config.keys, "ai").service_token())


async def told(suite, *given, tenant="acme", who=None):
    request = cost_service_pb2.RecordChargesRequest(parent=f"tenants/{tenant}", charges=given)
    return await (who or ai(suite)).RecordCharges(request)


async def costs(suite, month="2026-11", tenant="acme", who=None):
    request = cost_service_pb2.GetCostsRequest(name=f"tenants/{tenant}/costs", month=month)
    return await (who or suite.operator).GetCosts(request)


async def budget(suite, **fields):
    return await suite.operator.UpdateTenant(
        tenant_service_pb2.UpdateTenantRequest(
            tenant=tenant_pb2.Tenant(name="tenants/acme", budget=cost_pb2.Budget(**fields)),
            update_mask=FieldMask(paths=["budget"]),
        )
    )


async def test_a_month_is_shown_by_engine_and_by_day(suite):
    seconds = {"audio_duration": {"seconds": 90}}
    await told(suite, charge(1, 700, input_tokens=1000, output_tokens=100), charge(2, 300, input_tokens=400))
    await told(
        suite,
        charge(3, 24_000, at="2026-11-30T23:59:59Z", engine="google/v2 chirp_3", **seconds),
        charge(4, at="2026-11-30T23:59:59Z", engine="whisper/1.2.1 base", **seconds),
        who=suite.audio,
    )
    month = await costs(suite)
    assert (month.usage.cost_micros, month.answer_count, month.unpriced_count) == (25_000, 4, 0)
    assert (month.usage.input_tokens, month.usage.output_tokens) == (1400, 100)
    assert month.usage.audio_duration.seconds == 180
    assert [(one.service, one.engine, one.usage.cost_micros, one.answer_count) for one in month.engines] == [
        ("audio", "google/v2 chirp_3", 24_000, 1),
        ("ai", VERTEX, 1_000, 2),
        ("audio", "whisper/1.2.1 base", 0, 1),
    ]
    assert [(one.day, one.usage.cost_micros, one.answer_count) for one in month.days] == [
        ("2026-11-10", 1_000, 2),
        ("2026-11-30", 24_000, 2),
    ]
    assert month.reset_time.ToDatetime(UTC) == datetime(2026, 12, 1, tzinfo=UTC)
    assert not month.HasField("budget")


async def test_a_charge_that_is_told_again_counts_once(suite):
    await told(suite, charge(1, 700), charge(1, 700), charge(2, 5))
    await told(suite, charge(2, 5), charge(3, 10))
    await asyncio.gather(*(told(suite, charge(4, 1_000)) for _ in range(5)))
    month = await costs(suite)
    assert (month.usage.cost_micros, month.answer_count) == (1_715, 4)


async def test_a_charge_belongs_to_the_month_in_which_it_was_answered(suite):
    await told(suite, charge(1, 7, at="2026-11-30T23:59:59.999Z"), charge(2, 5, at="2026-12-01T00:00:00Z"))
    assert (await costs(suite)).usage.cost_micros == 7
    assert (await costs(suite, "2026-12")).usage.cost_micros == 5
    assert (await costs(suite, "2025-01")).answer_count == 0


async def test_without_a_month_the_current_one_is_shown(suite):
    now = suite.clock.now()
    await told(suite, charge(1, 7, at=now.strftime("%Y-%m-%dT%H:%M:%SZ")))
    month = await costs(suite, "")
    assert (month.month, month.usage.cost_micros) == (now.strftime("%Y-%m"), 7)


async def test_a_model_without_a_price_is_counted_as_such(suite):
    await told(suite, charge(1, 7), charge(2, engine="openai/own", unpriced=True, input_tokens=10))
    month = await costs(suite)
    assert (month.answer_count, month.unpriced_count) == (2, 1)
    assert [one.unpriced_count for one in month.engines] == [0, 1]


async def test_a_budget_is_compared_with_the_month(suite):
    await budget(suite, monthly_micros=1_000, warn_percent=50)
    seen = []
    for key, micros in enumerate((499, 1, 499, 1)):
        await told(suite, charge(key, micros))
        month = await costs(suite)
        seen.append((month.budget_state, month.budget_percent))
    assert seen == [
        (cost_pb2.BUDGET_STATE_WITHIN, 49),
        (cost_pb2.BUDGET_STATE_NEAR, 50),
        (cost_pb2.BUDGET_STATE_NEAR, 99),
        (cost_pb2.BUDGET_STATE_SPENT, 100),
    ]
    assert (await costs(suite)).budget.monthly_micros == 1_000
    assert (await costs(suite, "2026-12")).budget_state == cost_pb2.BUDGET_STATE_WITHIN
    await budget(suite)
    assert (await costs(suite)).budget_state == cost_pb2.BUDGET_STATE_UNSPECIFIED


async def test_a_mark_that_is_passed_is_counted_once(suite):
    def passed(mark):
        return REGISTRY.get_sample_value("trunkline_budget_marks_total", {"mark": mark}) or 0

    await budget(suite, monthly_micros=1_000)
    near, spent = passed("near"), passed("spent")
    for key, micros in enumerate((790, 10, 100, 100, 100)):
        await told(suite, charge(key, micros))
    assert (passed("near") - near, passed("spent") - spent) == (1, 1)


async def test_operators_list_what_each_tenant_costs(suite):
    await suite.tenant("beta")
    await suite.tenant("costless")
    await told(suite, charge(1, 7))
    await told(suite, charge(1, 9), tenant="beta")
    found, token = [], ""
    while True:
        request = cost_service_pb2.ListCostsRequest(month="2026-11", page_size=1, page_token=token)
        page = await suite.operator.ListCosts(request)
        found += [(one.name, one.usage.cost_micros) for one in page.costs]
        if not (token := page.next_page_token):
            break
    assert found == [("tenants/acme/costs", 7), ("tenants/beta/costs", 9)]


async def test_a_viewer_sees_its_own_tenant_and_records_nothing(suite, raised):
    await suite.tenant("beta")
    key = suite.key((await suite.api_key(role=api_key_pb2.ROLE_VIEWER)).key)
    await told(suite, charge(1, 7))
    assert (await costs(suite, who=key)).usage.cost_micros == 7
    assert (await raised(costs(suite, tenant="beta", who=key))).code is grpc.StatusCode.NOT_FOUND
    for who in (key, suite.operator, suite.gateway):
        error = await raised(told(suite, charge(2), who=who))
        assert error.code is grpc.StatusCode.PERMISSION_DENIED
    error = await raised(key.ListCosts(cost_service_pb2.ListCostsRequest()))
    assert error.code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_deleted_tenant_has_no_costs(suite, raised):
    await told(suite, charge(1, 7))
    await suite.operator.DeleteTenant(tenant_service_pb2.DeleteTenantRequest(name="tenants/acme", force=True))
    assert (await raised(told(suite, charge(2, 7)))).code is grpc.StatusCode.NOT_FOUND
    assert (await raised(costs(suite))).code is grpc.StatusCode.NOT_FOUND


async def test_the_gauge_names_the_dearest_ten_and_adds_up_the_rest(suite):
    now = suite.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    for number in range(12):
        await suite.tenant(f"t{number:02}")
        await told(suite, charge(1, 100 + number, at=now), tenant=f"t{number:02}")
    await Upkeep(suite.app.db).run()

    def shown(tenant):
        return REGISTRY.get_sample_value("trunkline_tenant_month_cost_micros", {"tenant": tenant})

    assert shown("tenants/t11") == 111
    assert shown("tenants/t01") is None
    assert shown("rest") == 100 + 101


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_charge_is_forgotten_after_forty_days(suite):
    await told(suite, charge(1, 7))
    suite.clock.advance(41 * 86_400)
    await Upkeep(suite.app.db).run()
    assert [tenant async for tenant in owners(suite.app.db, charges)] == []
    assert (await costs(suite)).usage.cost_micros == 7
