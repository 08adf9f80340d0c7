"""Operations over HTTP: each name is asked of its owner, and a list goes through the services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from google.longrunning import operations_pb2_grpc
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_gateway.api.app import build_transcoder
from trunkline_gateway.api.operations import OperationsService
from trunkline_jobs import Queue, jobs_table
from trunkline_jobs.operations import Operations, OperationsServicer, OperationState, operations_table
from trunkline_runtime.config import CommonConfig
from trunkline_runtime.errors import Unauthenticated
from trunkline_runtime.identity.callers import Caller, CallerKind, Role
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.operations import SERVICE
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.testing import KEY_FOLDER
from trunkline_store import Database, FakeClock

METADATA = sa.MetaData()
JOBS, TABLE = jobs_table(METADATA), operations_table(METADATA)
TOKENS = {
    "tl_acme": Caller(CallerKind.API_KEY, tenant="acme", role=Role.MEMBER, subject="k1"),
    "tl_viewer": Caller(CallerKind.API_KEY, tenant="acme", role=Role.VIEWER, subject="k3"),
    "tl_other": Caller(CallerKind.API_KEY, tenant="other", role=Role.ADMIN, subject="k2"),
}


class Keys:
    async def authenticate(self, token: str) -> Caller:
        if token not in TOKENS:
            raise Unauthenticated("the credentials are not valid", reason="CREDENTIALS_INVALID")
        return TOKENS[token]


@dataclass
class Addresses:
    audio_address: str = ""
    ai_address: str = ""
    tenant_address: str = ""


@dataclass
class World:
    http: httpx.AsyncClient
    audio: Operations
    ai: Operations
    clock: FakeClock

    async def ask(self, method: str, path: str, token: str = "tl_acme", **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"}
        return await self.http.request(method, f"/v1/{path}", headers=headers, **more)

    async def start(self, operations: Operations) -> str:
        self.clock.advance(1)
        recording = "tenants/acme/recordings/r-1"
        made = await operations.start(
            "acme",
            "transcribe",
            pb.TranscribeRecordingRequest(name=recording),
            pb.TranscribeRecordingMetadata(recording=recording),
        )
        return made.name

    async def succeed(self, operations: Operations, name: str) -> None:
        response = pb.TranscribeRecordingResponse(transcript="tenants/acme/transcripts/t-1")
        operation = name.rpartition("/")[2]

        def write(conn: Any) -> None:
            operations.queue.drop(conn, operation, tenant_id="acme")
            operations.end(conn, "acme", operation, OperationState.SUCCEEDED, response=response)

        await operations.db.write(write)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    config = CommonConfig(
        keys=KEY_FOLDER, grpc_address="127.0.0.1:0", drain_notice_seconds=0.0, drain_seconds=0.5
    )
    clock = FakeClock()
    kept: dict[str, Operations] = {}
    addresses: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for service in ("audio", "ai", "tenant"):
            server = Server(
                config, service=service, signer=TokenSigner(KEY_FOLDER, service), authenticator=Keys()
            )
            if service != "tenant":
                db = await Database.open(f"sqlite:///{tmp_path}/{service}.db", METADATA, clock=clock)
                await stack.enter_async_context(db)
                kept[service] = Operations(
                    db, TABLE, Queue(db, JOBS), service=service, keep=timedelta(days=1), look_seconds=0.02
                )
                server.add(
                    operations_pb2_grpc.add_OperationsServicer_to_server,
                    OperationsServicer(kept[service]),
                    SERVICE,
                )
            await server.start()
            stack.push_async_callback(server.stop, 0)
            addresses[service] = server.address
        signer = TokenSigner(KEY_FOLDER, "gateway")
        channels = Channels(signer)
        stack.push_async_callback(channels.close)
        gateway = Server(config, service="gateway", signer=signer, authenticator=Keys())
        gateway.add(
            operations_pb2_grpc.add_OperationsServicer_to_server,
            OperationsService(channels, addresses),
            SERVICE,
        )
        where = Addresses(**{f"{name}_address": address for name, address in addresses.items()})
        api = build_transcoder(channels, signer, Keys(), where, own_address=lambda: gateway.address)
        await gateway.start()
        stack.push_async_callback(gateway.stop, 0)
        transport = httpx.ASGITransport(app=api)  # type: ignore[arg-type]
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://gateway")
        )
        yield World(http, kept["audio"], kept["ai"], clock)


async def test_an_operation_is_read_of_the_service_that_its_name_says(world: World) -> None:
    for operations in (world.audio, world.ai):
        name = await world.start(operations)
        running = (await world.ask("GET", name)).json()
        assert (running["name"], running["done"]) == (name, False)
        assert running["metadata"]["@type"].endswith("/trunkline.audio.v1.TranscribeRecordingMetadata")
        await world.succeed(operations, name)
        ended = (await world.ask("GET", name, "tl_viewer")).json()
        assert ended["done"]
        assert ended["response"]["transcript"] == "tenants/acme/transcripts/t-1"


async def test_waiting_is_bounded_and_ends_with_the_operation(world: World) -> None:
    name = await world.start(world.audio)
    waited = await world.ask("POST", f"{name}:wait", json={"timeout": "0.01s"})
    assert (waited.status_code, waited.json()["done"]) == (200, False)
    await world.succeed(world.audio, name)
    waited = await world.ask("POST", f"{name}:wait", json={})
    assert waited.json()["done"]


async def test_an_operation_is_cancelled_then_deleted(world: World) -> None:
    name = await world.start(world.audio)
    refused = await world.ask("DELETE", name)
    assert refused.json()["error"]["details"][0]["reason"] == "OPERATION_RUNNING"
    assert (await world.ask("POST", f"{name}:cancel")).status_code == 200
    ended = (await world.ask("GET", name)).json()
    assert ended["error"]["code"] == 1
    assert ended["error"]["details"][0]["reason"] == "OPERATION_CANCELLED"
    assert (await world.ask("DELETE", name)).json() == {}
    assert (await world.ask("GET", name)).status_code == 404


async def test_another_tenant_and_a_lesser_role_may_not(world: World) -> None:
    name = await world.start(world.audio)
    for method, path in (
        ("GET", name),
        ("DELETE", name),
        ("POST", f"{name}:cancel"),
        ("POST", f"{name}:wait"),
    ):
        body = {"json": {}} if path.endswith(":wait") else {}
        assert (await world.ask(method, path, "tl_other", **body)).status_code == 404
    for method, path in (("DELETE", name), ("POST", f"{name}:cancel")):
        assert (await world.ask(method, path, "tl_viewer")).status_code == 403
    assert (await world.ask("GET", "tenants/acme/operations", "tl_other")).status_code == 404


@pytest.mark.parametrize("operation", ["nobody-1", "audio-never", "tenant-1", "gateway-1"])
async def test_a_name_of_nobodys_is_not_found(world: World, operation: str) -> None:
    assert (await world.ask("GET", f"tenants/acme/operations/{operation}")).status_code == 404


async def test_a_list_goes_through_the_services(world: World) -> None:
    audio = [await world.start(world.audio) for _ in range(3)]
    ai = [await world.start(world.ai) for _ in range(2)]
    for size in (1, 2, 3, 4, 10):
        names: list[str] = []
        query: dict[str, Any] = {"pageSize": size}
        while True:
            page = (await world.ask("GET", "tenants/acme/operations", params=query)).json()
            names += [operation["name"] for operation in page["operations"]]
            assert len(page["operations"]) <= size
            if not page["nextPageToken"]:
                break
            query["pageToken"] = page["nextPageToken"]
        assert names == [*reversed(audio), *reversed(ai)]
    wrong = await world.ask("GET", "tenants/acme/operations", params={"pageToken": "x"})
    assert wrong.status_code == 400
    filtered = await world.ask("GET", "tenants/acme/operations", params={"filter": "state = succeeded"})
    assert filtered.json()["operations"] == []


async def test_the_document_has_the_routes_and_tells_errors_from_a_status(world: World) -> None:
    document = (await world.http.get("/v1/openapi.json")).json()
    one = document["paths"]["/v1/tenants/{tenantsId}/operations/{operationsId}"]
    assert set(one) == {"get", "delete"}
    operation = document["components"]["schemas"]["google.longrunning.Operation"]
    assert operation["properties"]["error"] == {"$ref": "#/components/schemas/google.rpc.Status"}
    assert "code" in document["components"]["schemas"]["google.rpc.Status"]["properties"]
