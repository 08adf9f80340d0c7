"""A real tenant service in this process, on a free port, with stubs for each kind of caller."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio
import pytest
from cryptography.fernet import Fernet
from google.protobuf.timestamp_pb2 import Timestamp
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import (
    api_key_pb2,
    api_key_service_pb2,
    api_key_service_pb2_grpc,
    call_pb2,
    call_service_pb2,
    call_service_pb2_grpc,
    cost_service_pb2_grpc,
    lead_service_pb2_grpc,
    source_pb2,
    source_service_pb2,
    source_service_pb2_grpc,
    tenant_pb2,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
)
from trunkline_runtime.errors import from_rpc_error
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.testing import KEY_FOLDER
from trunkline_store import FakeClock
from trunkline_tenant.app import build
from trunkline_tenant.config import TenantConfig

from .tenant_conformance import ENROLLED, EXCLUSIONS

OPERATOR = "tl_op_" + "o" * 40


@dataclass
class As:
    """Stubs that show one authorization."""

    channel: grpc.aio.Channel
    authorization: str

    def __getattr__(self, method):
        for stub in (
            tenant_service_pb2_grpc.TenantServiceStub,
            source_service_pb2_grpc.SourceServiceStub,
            api_key_service_pb2_grpc.ApiKeyServiceStub,
            call_service_pb2_grpc.CallServiceStub,
            cost_service_pb2_grpc.CostServiceStub,
            lead_service_pb2_grpc.LeadServiceStub,
        ):
            call = getattr(stub(self.channel), method, None)
            if call is not None:
                metadata = (("authorization", f"Bearer {self.authorization}"),)
                return lambda request, timeout=10: call(request, metadata=metadata, timeout=timeout)
        raise AttributeError(method)


class Suite:
    """The running service and who may call it."""

    def __init__(self, app, channel, config, clock):
        self.app, self.channel, self.config, self.clock = app, channel, config, clock
        self.operator = As(channel, OPERATOR)
        self.gateway = As(channel, TokenSigner(config.keys, "gateway").service_token())
        self.audio = As(channel, TokenSigner(config.keys, "audio").service_token())

    def key(self, token):
        return As(self.channel, token)

    async def tenant(self, tenant_id="acme", **fields):
        return await self.operator.CreateTenant(
            tenant_service_pb2.CreateTenantRequest(
                tenant_id=tenant_id, tenant=tenant_pb2.Tenant(display_name=tenant_id), **fields
            )
        )

    async def api_key(self, tenant="acme", role=api_key_pb2.ROLE_ADMIN, **fields):
        return await self.operator.CreateApiKey(
            api_key_service_pb2.CreateApiKeyRequest(
                parent=f"tenants/{tenant}", api_key=api_key_pb2.ApiKey(role=role, **fields)
            )
        )

    async def source(self, tenant="acme", request_id="", **fields):
        fields = {"provider": provider_pb2.PROVIDER_CALLRAIL, "secret": "s3cret", **fields}
        if fields["provider"] == provider_pb2.PROVIDER_CALLRAIL:
            fields = {"provider_account": "ACC1", **fields}
        return await self.operator.CreateSource(
            source_service_pb2.CreateSourceRequest(
                parent=f"tenants/{tenant}", source=source_pb2.Source(**fields), request_id=request_id
            )
        )

    async def record(self, event, at, tenant="acme", aliases=(), rank=0, mask=(), **fields):
        return await self.gateway.RecordCall(
            record_request(event, at, tenant=tenant, aliases=aliases, rank=rank, mask=mask, **fields)
        )

    async def get_call(self, name):
        return await self.operator.GetCall(call_service_pb2.GetCallRequest(name=name))


def record_request(event, at, tenant="acme", aliases=(), rank=0, mask=(), **fields):
    fields = {
        "provider": provider_pb2.PROVIDER_CALLRAIL,
        "provider_account": "ACC1",
        "provider_call_id": "CAL1",
        **fields,
    }
    request = call_service_pb2.RecordCallRequest(
        parent=f"tenants/{tenant}",
        call=call_pb2.Call(**fields),
        aliases=aliases,
        event=f"tenants/{tenant}/events/{event}",
        event_time=Timestamp(seconds=at),
        rank=rank,
    )
    request.field_mask.paths.extend(mask)
    return request


def make_config(store_url, **changes):
    return TenantConfig(
        **{
            "keys": KEY_FOLDER,
            "grpc_address": "127.0.0.1:0",
            "metrics_address": "",
            "store_url": store_url,
            "secret_keys": (Fernet.generate_key().decode(),),
            "operator_token": OPERATOR,
            "list_staleness_seconds": 0.0,
            "watch_poll_seconds": 30.0,
            "watch_heartbeat_seconds": 30.0,
            "drain_seconds": 2.0,
            "drain_notice_seconds": 0.0,
            **changes,
        }
    )


@asynccontextmanager
async def running(config, clock=None, **parts):
    clock = clock or FakeClock()
    async with build(config, clock=clock, **parts) as app, app.running() as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Suite(app, channel, config, clock)
        await server.stop(0)


@pytest.fixture(params=sorted(ENROLLED))
def engine(request):
    """The name of each engine in turn."""
    if reason := EXCLUSIONS.get((request.param, request.function.__name__)):
        pytest.skip(f"{request.param} is let off: {reason}")
    return request.param


@pytest.fixture
async def store_url(engine, tmp_path):
    """An empty store on each engine in turn."""
    async with ENROLLED[engine](tmp_path) as url:
        yield url


@pytest.fixture
async def suite(store_url):
    async with running(make_config(store_url)) as suite:
        await suite.tenant()
        yield suite


@pytest.fixture
def raised():
    """Await a call that must fail; the domain error that it failed with."""

    async def failed(call):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return from_rpc_error(caught.value)

    return failed
