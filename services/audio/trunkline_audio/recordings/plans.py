"""What a tenant's plan and settings say of recordings and transcripts that come without the gateway's word on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from trunkline.common.v1 import analysis_settings_pb2
from trunkline.tenant.v1 import tenant_pb2
from trunkline_runtime.engines.tenants import asking
from trunkline_runtime.errors import InvalidArgument
from trunkline_runtime.identity.callers import CallerKind, current_caller
from trunkline_runtime.rpc.channels import Channels


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """`quota_bytes` is the most that may be kept, `keep_days` how long; 0 is no limit, and the service's setting.

    `transcript_days` is how long transcripts are kept, and `engine` and `phrases` are the tenant's speech settings.
    `redaction` is what becomes of personal data.
    """

    quota_bytes: int = 0
    keep_days: int = 0
    transcript_days: int = 0
    engine: str = ""
    phrases: tuple[str, ...] = ()
    redaction: analysis_settings_pb2.Redaction = field(default_factory=analysis_settings_pb2.Redaction)


AskPlan = Callable[[str], Awaitable[TenantPlan]]
"""Takes the bare id of a tenant. Raises grpc.RpcError."""


def plans(channels: Channels, tenant_address: str) -> AskPlan:
    """Return what asks the tenant service."""
    return asking(channels, tenant_address, _plan)


def _plan(tenant: tenant_pb2.Tenant) -> TenantPlan:
    return TenantPlan(
        quota_bytes=tenant.quotas.recordings_bytes,
        keep_days=tenant.retention.recordings_days,
        transcript_days=tenant.retention.transcripts_days,
        engine=tenant.speech_settings.engine,
        phrases=tuple(tenant.speech_settings.phrases),
        redaction=tenant.analysis_settings.redaction,
    )


async def as_tenant_set(ask: AskPlan, tenant: str, request: Any, now: datetime) -> None:
    """Set what a request for a transcript leaves open: engine, phrases, and time to keep it, as its tenant is set to.

    Personal data that the tenant wants never stored isn't stored, whatever the request says of it. Requests of services
    stay as they are: the gateway sends the settings that belong to the call's source. Raises
    InvalidArgument("expire_time") for a time that is over.
    """
    if current_caller().kind is CallerKind.SERVICE:
        return
    if request.HasField("expire_time") and request.expire_time.ToDatetime(UTC) <= now:
        raise InvalidArgument("expire_time", "must be in the future")
    plan = await ask(tenant)
    if not request.engine:
        request.engine = plan.engine
    if not request.phrases:
        request.phrases.extend(plan.phrases)
    _redact(request.redaction, plan.redaction)
    if plan.transcript_days and not request.HasField("expire_time"):
        request.expire_time.FromDatetime(now + timedelta(days=plan.transcript_days))


def _redact(asked: analysis_settings_pb2.Redaction, wanted: analysis_settings_pb2.Redaction) -> None:
    """Add to what a request says of personal data what its tenant wants; no kinds are all of them."""
    if not wanted.stored_transcripts:
        return
    if not asked.stored_transcripts or not wanted.kinds:
        asked.kinds[:] = wanted.kinds
    elif asked.kinds:
        asked.kinds[:] = sorted({*asked.kinds, *wanted.kinds})
    asked.stored_transcripts = True
