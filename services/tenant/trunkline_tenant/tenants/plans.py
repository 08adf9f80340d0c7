"""The plans: how much may be kept of a tenant."""

from __future__ import annotations

from trunkline.tenant.v1 import tenant_pb2

_MIB, _GIB = 1 << 20, 1 << 30

PLANS = {
    tenant_pb2.PLAN_TRIAL: tenant_pb2.Quotas(
        receipts_bytes=_GIB,
        recordings_bytes=5 * _GIB,
        rejections_bytes=32 * _MIB,
        sources=10,
        replays=2,
        api_keys=20,
    ),
    tenant_pb2.PLAN_STANDARD: tenant_pb2.Quotas(
        receipts_bytes=20 * _GIB,
        recordings_bytes=200 * _GIB,
        rejections_bytes=256 * _MIB,
        sources=200,
        replays=10,
        api_keys=200,
    ),
    tenant_pb2.PLAN_LARGE: tenant_pb2.Quotas(
        receipts_bytes=500 * _GIB,
        recordings_bytes=5_120 * _GIB,
        rejections_bytes=_GIB,
        sources=2_000,
        replays=50,
        api_keys=2_000,
    ),
}


def quotas_of(plan: int) -> tenant_pb2.Quotas:
    """Return what a plan allows; a tenant of no plan has STANDARD."""
    return PLANS.get(tenant_pb2.Plan.ValueType(plan), PLANS[tenant_pb2.PLAN_STANDARD])
