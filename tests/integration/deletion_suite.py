"""The four services in one process, filled, for the tests of what deletes from all of them."""

from __future__ import annotations

import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

import grpc.aio
from cryptography.fernet import Fernet
from google.protobuf.timestamp_pb2 import Timestamp
from trunkline.ai.v1 import analysis_service_pb2, analysis_service_pb2_grpc
from trunkline.audio.v1 import admin_service_pb2_grpc
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import (
    api_key_pb2,
    api_key_service_pb2,
    api_key_service_pb2_grpc,
    call_pb2,
    call_service_pb2,
    call_service_pb2_grpc,
    source_pb2,
    source_service_pb2,
    source_service_pb2_grpc,
    tenant_pb2,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
)
from trunkline_ai import app as ai_app
from trunkline_ai.config import AiConfig
from trunkline_ai.schema import metadata as ai_metadata
from trunkline_audio.admin_service import AdminServicer as AudioAdmin
from trunkline_audio.media.blobs.local import LocalBlobs
from trunkline_audio.recordings.rows import Recording, Recordings
from trunkline_audio.recordings.uploads.rows import Uploads
from trunkline_audio.schema import metadata as audio_metadata
from trunkline_audio.transcripts.rows import Transcript, Transcripts
from trunkline_gateway import schema
from trunkline_gateway.events.tenant_deletion import PURGE, Deletions
from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.providers.base import Delivery
from trunkline_gateway.receipts import UNVERIFIED
from trunkline_jobs import TaskKind, TaskRunner, Tasks
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.testing import KEY_FOLDER
from trunkline_store import Database
from trunkline_tenant.app import build
from trunkline_tenant.config import TenantConfig
from trunkline_tenant.schema import metadata as tenant_metadata

from tests.integration.migrated_file import migrated_file

sys.path.insert(0, str(Path(__file__).parents[2] / "services" / "gateway" / "tests"))
import gateway_world
from gateway_sources import resolved

OPERATOR = "tl_op_" + "o" * 40
TENANT, OTHER = "doomed-tenant", "other-tenant"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TABLES = {"tenant": tenant_metadata, "audio": audio_metadata, "ai": ai_metadata}


class Audio:
    """The audio service's store, blobs and AdminService, without its decoders and engines."""

    def __init__(self, db, folder):
        self.db, self.blobs = db, LocalBlobs(folder)
        self.recordings, self.transcripts = Recordings(db), Transcripts(db)

    async def keep(self, tenant, number, call="c1"):
        made = Recording(
            tenant,
            f"rec-{number}",
            f"tenants/{tenant}/calls/{call.rpartition('/')[2]}",
            "0" * 64,
            5,
            "wav",
            1,
            1,
            8000,
            NOW,
        )

        async def sound():
            yield b"sound"

        await self.blobs.put(made.blob_key, sound())
        await self.recordings.add(made)
        said = [{"text": f"of {tenant}"}]
        await self.transcripts.add(
            Transcript(
                tenant, f"t-{number}", made.recording_id, 0, "en-US", 1, 1, 1, 1, 0.5, "", "local", said, NOW
            )
        )


class Suite:
    """The four services in this process: real stores, real sockets between them."""

    def __init__(self, folder):
        self.folder = folder

    async def open(self, stack):
        for service, tables in TABLES.items():
            await migrated_file(self.folder / f"{service}.db", tables, f"trunkline_{service}.migrations")
        common = {
            "keys": KEY_FOLDER,
            "grpc_address": "127.0.0.1:0",
            "metrics_address": "",
            "drain_seconds": 0.1,
        }
        parts = build(
            TenantConfig(
                store_url=self.url("tenant"), operator_token=OPERATOR,
                secret_keys=(Fernet.generate_key().decode(),), drain_notice_seconds=0.0, **common,
            )
        )  # fmt: skip
        tenant = await stack.enter_async_context(parts)
        await stack.enter_async_context(tenant.running())
        config = AiConfig(store_url=self.url("ai"), drain_notice_seconds=0.0, **common)
        ai = await stack.enter_async_context(ai_app.build(config))
        await stack.enter_async_context(ai.running())
        audio_db = await stack.enter_async_context(
            await Database.open(self.url("audio"), audio_metadata, migrations="trunkline_audio.migrations")
        )
        self.audio = Audio(audio_db, self.folder / "blobs")
        server = Server(config, service="audio", signer=TokenSigner(KEY_FOLDER, "audio"), authenticator=None)
        server.add(
            admin_service_pb2_grpc.add_AdminServiceServicer_to_server,
            AudioAdmin(audio_db, self.audio.blobs, Uploads(audio_db, 100)),
            "trunkline.audio.v1.AdminService",
        )
        await server.start()
        stack.push_async_callback(server.stop, 0)
        self.addresses = {
            "tenant_address": tenant.server.address,
            "audio_address": server.address,
            "ai_address": ai.server.address,
        }
        self.channels = Channels(TokenSigner(KEY_FOLDER, "gateway"))
        stack.push_async_callback(self.channels.close)
        self.operator = await stack.enter_async_context(
            grpc.aio.insecure_channel(self.addresses["tenant_address"])
        )
        self.world = await stack.enter_async_context(gateway_world.opened(self.folder, resolved()))
        return self

    def url(self, service):
        return f"sqlite:///{self.folder}/{service}.db"

    async def purge(self, **addresses):
        """Do what a gateway does about deletions as it starts."""
        tasks = Tasks(self.world.db, schema.tasks)
        deletions = Deletions(self.world.db, tasks, self.channels, **{**self.addresses, **addresses})
        await deletions.learn()
        await self.world.work(TaskRunner(tasks, [TaskKind(name=PURGE, work=deletions.purge)]))

    async def operate(self, stub, method, request):
        metadata = (("authorization", f"Bearer {OPERATOR}"),)
        return await getattr(stub(self.operator), method)(request, metadata=metadata, timeout=10)

    async def gateway(self, stub, method, request, service="tenant"):
        return await getattr(stub(self.channels.get(self.addresses[f"{service}_address"])), method)(request)

    async def delete(self):
        request = tenant_service_pb2.DeleteTenantRequest(name=f"tenants/{TENANT}", force=True)
        return await self.operate(tenant_service_pb2_grpc.TenantServiceStub, "DeleteTenant", request)

    async def tombstone(self):
        request = tenant_service_pb2.GetTenantRequest(name=f"tenants/{TENANT}")
        return await self.operate(tenant_service_pb2_grpc.TenantServiceStub, "GetTenant", request)

    async def fill(self, tenant, *, gateway=True):
        """Something of the tenant in every table of the four services."""
        parent = f"tenants/{tenant}"
        made = tenant_service_pb2.CreateTenantRequest(
            tenant_id=tenant, tenant=tenant_pb2.Tenant(display_name=tenant), request_id="r-1"
        )
        await self.operate(tenant_service_pb2_grpc.TenantServiceStub, "CreateTenant", made)
        key = api_key_service_pb2.CreateApiKeyRequest(
            parent=parent, api_key=api_key_pb2.ApiKey(role=api_key_pb2.ROLE_VIEWER)
        )
        await self.operate(api_key_service_pb2_grpc.ApiKeyServiceStub, "CreateApiKey", key)
        source = await self.operate(
            source_service_pb2_grpc.SourceServiceStub,
            "CreateSource",
            source_service_pb2.CreateSourceRequest(
                parent=parent,
                source=source_pb2.Source(
                    provider=provider_pb2.PROVIDER_CALLRAIL, provider_account="A", secret="s" * 9
                ),
            ),
        )
        for n in range(3):
            await self.gateway(call_service_pb2_grpc.CallServiceStub, "RecordCall", record(tenant, n))
        for n in range(30):
            await self.audio.keep(tenant, n)
        await self.audio.recordings.delete(tenant, "rec-29")
        await self.gateway(
            analysis_service_pb2_grpc.AnalysisServiceStub,
            "AnalyzeCall",
            analysis_service_pb2.AnalyzeCallRequest(
                parent=parent, call=f"{parent}/calls/c1", text="a pipe burst"
            ),
            "ai",
        )
        if gateway:
            await self.fill_gateway(tenant, source.name.rsplit("/", 1)[1])

    async def fill_gateway(self, tenant, source_id):
        world = self.world
        known = resolved(source_id)
        known.source.name = f"tenants/{tenant}/sources/{source_id}"
        world.feed.sources[source_id] = known
        mine = {"tenant": tenant, "source": source_id}
        for n in range(90):
            await world.receipt(gateway_world.body_of(n), **mine)
        await world.receipt(gateway_world.body_of(1), **mine)
        await world.admit()
        done, dead, *_held = await world.claim(5)
        await world.finish(done, f"tenants/{tenant}/calls/c1")
        await world.bury(dead)
        await world.replay_all(f"tenants/{tenant}")
        forged = {"verdict": UNVERIFIED, "tenant": "", "source": source_id}
        await world.receipt(b"{}", **forged)
        await world.admit()
        world.rejections.keep(source_of(known), "post_call", Delivery(b"{}", {}, "https://x/", NOW), "wrong")
        await world.rejections.flush()

    def mentions(self, tenant=TENANT):
        """Every table of every database, and the blobs' folder, that name the tenant."""
        found = set()
        for path in self.folder.glob("*.db"):
            conn = sqlite3.connect(path)
            tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                for row in conn.execute(f'SELECT * FROM "{table}"'):
                    if any(tenant.encode() in (v if isinstance(v, bytes) else str(v).encode()) for v in row):
                        found.add(f"{path.stem}.{table}")
            conn.close()
        if any(tenant in str(path.relative_to(self.folder)) for path in (self.folder / "blobs").rglob("*")):
            found.add("blobs")
        return found


def record(tenant, n):
    parent = f"tenants/{tenant}"
    request = call_service_pb2.RecordCallRequest(
        parent=parent,
        call=call_pb2.Call(
            provider=provider_pb2.PROVIDER_CALLRAIL, provider_account="A", provider_call_id=f"CAL{n}",
            caller_number="+12148654559", summary=f"about {tenant}",
        ),
        aliases=[f"CAL{n}"],
        event=f"{parent}/events/e{n}",
        event_time=Timestamp(seconds=1000 + n),
    )  # fmt: skip
    request.field_mask.paths.extend(["caller_number", "summary"])
    return request
