"""A conversation is composed of what can be had, for the caller's tenant only, over gRPC and over HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from trunkline.ai.v1 import analysis_pb2, analysis_service_pb2_grpc
from trunkline.audio.v1 import (
    audio_feature_service_pb2_grpc,
    audio_features_pb2,
    recording_pb2,
    recording_service_pb2_grpc,
    transcript_pb2,
    transcription_service_pb2_grpc,
)
from trunkline.gateway.v1 import conversation_service_pb2 as pb
from trunkline.gateway.v1 import conversation_service_pb2_grpc
from trunkline.tenant.v1 import call_pb2, call_service_pb2_grpc
from trunkline_gateway.api.app import build_transcoder
from trunkline_gateway.api.conversation import ConversationService
from trunkline_runtime.config import CommonConfig
from trunkline_runtime.errors import NotFound, Unauthenticated, Unavailable
from trunkline_runtime.identity.callers import Caller, CallerKind, Role, current_caller
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels, acting_for
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.testing import KEY_FOLDER

CALL = "tenants/acme/calls/call-1"
FEATURES = "tenants/acme/transcripts/trans-1/audioFeatures"
TOKENS = {
    "tl_acme": Caller(CallerKind.API_KEY, tenant="acme", role=Role.VIEWER, subject="k1"),
    "tl_other": Caller(CallerKind.API_KEY, tenant="other", role=Role.ADMIN, subject="k2"),
    "tl_operator": Caller(CallerKind.OPERATOR),
}


class Keys:
    """Knows the tokens above."""

    async def authenticate(self, token: str) -> Caller:
        if token not in TOKENS:
            raise Unauthenticated("the credentials are not valid", reason="CREDENTIALS_INVALID")
        return TOKENS[token]


@dataclass
class Things:
    """What the services hold; a value that is an error is raised; `hang` names what never answers."""

    call: dict[str, Any] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    hang: set[str] = field(default_factory=set)
    callers: list[tuple[str, Caller]] = field(default_factory=list)
    together: asyncio.Barrier | None = None

    async def get(self, kind: str, message: Any, request: Any) -> Any:
        self.callers.append((kind, current_caller()))
        if self.together is not None and kind != "call":
            await self.together.wait()
        if kind in self.hang:
            await asyncio.Event().wait()
        if request.name not in self.held:
            raise NotFound(request.name)
        value = self.held[request.name]
        if isinstance(value, Exception):
            raise value
        return message(name=request.name, **(self.call if kind == "call" else {}))


def servicers(things: Things) -> list[tuple[Any, Any, str]]:
    def get(kind: str, message: Any) -> Any:
        async def method(_self: Any, request: Any, _context: Any) -> Any:
            return await things.get(kind, message, request)

        return method

    call = type(
        "Calls", (call_service_pb2_grpc.CallServiceServicer,), {"GetCall": get("call", call_pb2.Call)}
    )
    recording = type(
        "Recordings",
        (recording_service_pb2_grpc.RecordingServiceServicer,),
        {"GetRecording": get("recording", recording_pb2.Recording)},
    )
    transcript = type(
        "Transcripts",
        (transcription_service_pb2_grpc.TranscriptionServiceServicer,),
        {"GetTranscript": get("transcript", transcript_pb2.Transcript)},
    )
    features = type(
        "Features",
        (audio_feature_service_pb2_grpc.AudioFeatureServiceServicer,),
        {"GetAudioFeatures": get("audio_features", audio_features_pb2.AudioFeatures)},
    )
    analysis = type(
        "Analyses",
        (analysis_service_pb2_grpc.AnalysisServiceServicer,),
        {"GetAnalysis": get("analysis", analysis_pb2.Analysis)},
    )
    return [
        (call_service_pb2_grpc.add_CallServiceServicer_to_server, call(), "trunkline.tenant.v1.CallService"),
        (
            recording_service_pb2_grpc.add_RecordingServiceServicer_to_server,
            recording(),
            "trunkline.audio.v1.RecordingService",
        ),
        (
            transcription_service_pb2_grpc.add_TranscriptionServiceServicer_to_server,
            transcript(),
            "trunkline.audio.v1.TranscriptionService",
        ),
        (
            audio_feature_service_pb2_grpc.add_AudioFeatureServiceServicer_to_server,
            features(),
            "trunkline.audio.v1.AudioFeatureService",
        ),
        (
            analysis_service_pb2_grpc.add_AnalysisServiceServicer_to_server,
            analysis(),
            "trunkline.ai.v1.AnalysisService",
        ),
    ]


@dataclass
class World:
    """The other services on one server, the gateway on another, its HTTP API in front."""

    things: Things
    http: httpx.AsyncClient
    service: ConversationService
    channels: Channels
    gateway: str

    async def get(self, token: str = "tl_acme", path: str = CALL + "/conversation") -> httpx.Response:
        return await self.http.get("/v1/" + path, headers={"authorization": f"Bearer {token}"})

    def ask(self, name: str = CALL, **options: Any) -> Any:
        stub = conversation_service_pb2_grpc.ConversationServiceStub(self.channels.get(self.gateway))
        return stub.GetConversation(pb.GetConversationRequest(name=name), **options)


@dataclass(frozen=True)
class Addresses:
    tenant_address: str
    audio_address: str
    ai_address: str


@pytest.fixture
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    down = getattr(request, "param", "")
    things = Things(
        call={
            "recording": "tenants/acme/recordings/rec-1",
            "transcript": "tenants/acme/transcripts/trans-1",
            "analysis": "tenants/acme/analyses/ana-1",
        }
    )
    things.held = dict.fromkeys([CALL, FEATURES, *things.call.values()], True)
    config = CommonConfig(
        keys=KEY_FOLDER, grpc_address="127.0.0.1:0", drain_notice_seconds=0.0, drain_seconds=0.5
    )
    async with AsyncExitStack() as stack:
        others = Server(
            config, service="tenant", signer=TokenSigner(KEY_FOLDER, "tenant"), authenticator=Keys()
        )
        for servicer in servicers(things):
            others.add(*servicer)
        await others.start()
        stack.push_async_callback(others.stop, 0)
        signer = TokenSigner(KEY_FOLDER, "gateway")
        channels = Channels(signer)
        stack.push_async_callback(channels.close)
        nowhere = stack.enter_context(socket.socket())
        nowhere.bind(("127.0.0.1", 0))
        where = {
            name: f"127.0.0.1:{nowhere.getsockname()[1]}" if name == down else others.address
            for name in ("tenant", "audio", "ai")
        }
        addresses = Addresses(**{f"{name}_address": address for name, address in where.items()})
        service = ConversationService(channels, None, **vars(addresses), part_seconds=10.0)
        gateway = Server(config, service="gateway", signer=signer, authenticator=Keys())
        gateway.add(
            conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server,
            service,
            "trunkline.gateway.v1.ConversationService",
        )
        api = build_transcoder(channels, signer, Keys(), addresses, own_address=lambda: gateway.address)
        await gateway.start()
        stack.push_async_callback(gateway.stop, 0)
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://gateway")  # type: ignore[arg-type]
        )
        yield World(things, http, service, channels, gateway.address)


async def test_a_conversation_has_the_call_and_its_parts(world: World) -> None:
    answer = await world.get()
    assert answer.status_code == 200, answer.text
    whole = answer.json()
    assert whole["missing"] == []
    assert whole["call"]["name"] == CALL
    assert {part: whole[part]["name"] for part in world.things.call} == world.things.call
    assert whole["audioFeatures"]["name"] == FEATURES


async def test_the_services_are_asked_as_the_gateway_confined_to_the_tenant(world: World) -> None:
    for token in ("tl_acme", "tl_operator"):
        world.things.callers.clear()
        assert (await world.get(token)).status_code == 200
        assert {kind for kind, _ in world.things.callers} == {
            "call", "recording", "transcript", "audio_features", "analysis",
        }  # fmt: skip
        for _, caller in world.things.callers:
            assert caller == Caller(CallerKind.SERVICE, "gateway", tenant="acme")


async def test_the_parts_are_asked_for_at_once(world: World) -> None:
    world.things.together = asyncio.Barrier(4)
    assert (await world.get()).json()["missing"] == []


async def test_a_part_that_the_call_does_not_name_is_not_missing(world: World) -> None:
    world.things.call = {"analysis": "tenants/acme/analyses/ana-1"}
    whole = (await world.get()).json()
    assert whole["missing"] == []
    assert "recording" not in whole
    assert whole["analysis"]["name"] == "tenants/acme/analyses/ana-1"


@pytest.mark.parametrize("error", [None, Unavailable("not now"), RuntimeError("a bug")])
async def test_a_part_that_cannot_be_had_is_named(world: World, error: Exception | None) -> None:
    if error is None:
        del world.things.held["tenants/acme/transcripts/trans-1"]
    else:
        world.things.held["tenants/acme/transcripts/trans-1"] = error
    whole = (await world.get()).json()
    assert whole["missing"] == ["transcript"]
    assert "transcript" not in whole
    assert whole["recording"]["name"] == "tenants/acme/recordings/rec-1"


async def test_a_name_of_another_tenant_in_a_call_leads_nowhere(world: World) -> None:
    foreign = "tenants/other/recordings/rec-9"
    world.things.call["recording"] = foreign
    world.things.held[foreign] = True
    whole = (await world.get()).json()
    assert whole["missing"] == ["recording"]


async def test_a_part_that_hangs_is_left_out_within_the_callers_time(world: World) -> None:
    world.things.hang.add("analysis")
    with acting_for("acme"):
        whole = await world.ask(timeout=1.5)
    assert list(whole.missing) == ["analysis"]


@pytest.mark.parametrize("world", ["audio"], indirect=True)
async def test_a_service_that_is_down_degrades_the_answer(world: World) -> None:
    whole = (await world.get()).json()
    assert whole["missing"] == ["recording", "transcript", "audio_features"]
    assert whole["analysis"]["name"] == "tenants/acme/analyses/ana-1"


@pytest.mark.parametrize("world", ["tenant"], indirect=True)
async def test_without_the_call_there_is_no_conversation(world: World) -> None:
    answer = await world.get()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "127.0.0.1" not in answer.text


async def test_a_call_that_is_not_there_or_not_the_callers_looks_the_same(world: World) -> None:
    absent = await world.get(path="tenants/acme/calls/nobody/conversation")
    foreign = await world.get("tl_other")
    assert absent.status_code == foreign.status_code == 404
    assert absent.text.replace("nobody", "call-1") == foreign.text
    assert [kind for kind, _ in world.things.callers] == ["call"], "the foreign name was not asked for"


async def test_a_call_through_http_is_the_api_keys_own_role_and_tenant(world: World) -> None:
    assert (await world.get(path=CALL)).json()["name"] == CALL
    assert world.things.callers == [("call", TOKENS["tl_acme"])]


async def test_who_has_no_key_is_told_so_over_http(world: World) -> None:
    answer = await world.http.get("/v1/" + CALL)
    assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_a_name_that_is_none_is_the_callers_mistake(world: World) -> None:
    answer = await world.get(path="tenants/acme/calls/NOT%20A%20CALL/conversation")
    assert answer.status_code == 400
    assert not world.things.callers


async def test_over_grpc_errors_are_the_tenant_services(world: World) -> None:
    world.things.held[CALL] = NotFound(CALL)
    with acting_for("acme"), pytest.raises(grpc.aio.AioRpcError) as raised:
        await world.ask()
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
