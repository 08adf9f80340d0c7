"""Nothing of a conversation gets into logs, traces, metrics, or the messages of errors, however an analysis ends."""

import contextlib
import json
import logging
from dataclasses import replace

import ai_openai
import grpc
import pytest
import structlog
from ai_openai import Scripted, events, refusal, settings
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, generate_latest
from trunkline.ai.v1 import analysis_service_pb2, analysis_service_pb2_grpc
from trunkline.audio.v1 import transcript_pb2
from trunkline.common.v1 import analysis_settings_pb2 as settings_pb2
from trunkline_ai.app import build
from trunkline_ai.config import AiConfig
from trunkline_ai.engines.prompts import analyse_call
from trunkline_ai.schema import metadata
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe import logs, tracing
from trunkline_runtime.observe.otel import OtelExporter
from trunkline_runtime.testing import KEY_FOLDER

from tests.integration.migrated_file import migrated_file
from tests.standins.completing_ai import least
from tests.standins.costs import costs_served

MARKED = ("zanzibarquux", "Wolpertinger", "5550127", "555-0127", "4242424242424242", "4242 4242")
SAID = "zanzibarquux my name is Karen Wolpertinger, call 503-555-0127, card 4242 4242 4242 4242"
GOOD = json.dumps({**least(analyse_call.SCHEMA), "summary": SAID, "action_items": [SAID]})
BODY = {"error": {"message": SAID, "code": "x"}}
ANSWERS = {
    "good": Scripted(events(GOOD)),
    "malformed": Scripted(events(f'{{"summary": "{SAID}", ')),
    "not of the schema": Scripted(events(json.dumps({"intent": SAID, SAID: SAID}))),
    "cut": Scripted(events(GOOD, "length")),
    "blocked": Scripted(events(SAID, "content_filter")),
    "refused": refusal(400, "invalid_request", SAID),
    "a wrong key": refusal(401, SAID, SAID),
    "too many requests": refusal(429, "rate", SAID),
    "in trouble": Scripted([json.dumps(BODY)], 500, kind="application/json"),
    "no protocol": Scripted([f"data: {SAID}\n\n", SAID]),
    "broken off": Scripted(events(GOOD)[:2], cut=True),
}


@pytest.fixture
def told(capsys):
    """Everything that was observed so far, as one text."""
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    memory = InMemorySpanExporter()
    exporter = OtelExporter("ai", "", exporter=memory)
    end = tracing.export(exporter)
    shown = []

    def everything():
        exporter._provider.force_flush()
        captured = capsys.readouterr()
        shown.extend([captured.out, captured.err, *(span.to_json() for span in memory.get_finished_spans())])
        return "\n".join([*shown, generate_latest(REGISTRY).decode()])

    yield everything
    end()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@contextlib.asynccontextmanager
async def service(folder, it, address=None):
    """The service, with a tenant service that answers of costs unless an address is given."""
    logs.configure("ai", "json", "debug")
    config = AiConfig(
        grpc_address="127.0.0.1:0",
        metrics_address="",
        store_url=await migrated_file(folder / "ai.db", metadata, "trunkline_ai.migrations"),
        keys=KEY_FOLDER,
        drain_seconds=0.1,
        drain_notice_seconds=0.0,
        engines=("openai", "local"),
        openai=settings(it, patience_seconds=0.0),
    )
    async with (
        costs_served() as (_, costs),
        build(replace(config, tenant_address=address or costs)) as parts,
        parts.running() as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await server.health.wait_serving()
        yield analysis_service_pb2_grpc.AnalysisServiceStub(channel)


def request(call="call-1", *, redacted=True, keep=False, stored=False, **more):
    redaction = settings_pb2.Redaction(
        remote=settings_pb2.REMOTE_REDACTION_ON if redacted else settings_pb2.REMOTE_REDACTION_OFF,
        keep_placeholders=keep,
        stored=stored,
    )
    asked = {
        "parent": "tenants/acme",
        "call": f"tenants/acme/calls/{call}",
        "settings": settings_pb2.AnalysisSettings(redaction=redaction),
        "transcript": transcript_pb2.Transcript(
            language="en-US",
            segments=[transcript_pb2.Segment(speaker=transcript_pb2.SPEAKER_CUSTOMER, text=SAID)],
        ),
    }
    return analysis_service_pb2.AnalyzeCallRequest(**asked | more)


def signed():
    """What the gateway sends, in a trace that is exported."""
    token = TokenSigner(KEY_FOLDER, "gateway").service_token(None)
    return (("authorization", f"Bearer {token}"), ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"))


async def asked(stub, message):
    """Ask; what the caller of a refused request is told."""
    try:
        await stub.AnalyzeCall(message, metadata=signed(), timeout=30)
    except grpc.aio.AioRpcError as error:
        return f"{error.details()} {error.trailing_metadata()}"
    return ""


@pytest.mark.parametrize("redacted", [True, False], ids=["redacted", "as it is"])
@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_answer_of_any_kind(tmp_path, told, answer, redacted):
    async with ai_openai.endpoint() as it, service(tmp_path, it) as stub:
        it.script = [ANSWERS[answer]] * 3
        refused = await asked(stub, request(redacted=redacted))
        sent = json.dumps(it.asked)
    assert it.asked
    assert any(mark in sent for mark in MARKED if mark != "zanzibarquux") is not redacted
    observed = told()
    if answer != "good":
        assert '"service": "ai"' in observed  # a log line
    assert '"rpc.method": "AnalyzeCall"' in observed  # a span
    assert "trunkline_engine_cost_micros_total" in observed
    for mark in MARKED:
        assert mark not in observed, mark
        assert mark not in refused


@pytest.mark.parametrize(
    "wrong",
    [
        {"parent": "tenants/"},
        {"parent": "tenants/other"},
        {"call": ""},
        {"settings": settings_pb2.AnalysisSettings(questions=[settings_pb2.AnalysisQuestion(id=SAID, text=SAID)])},
        {"text": SAID * 20_000},
    ],
    ids=["parent", "another tenant", "no call", "settings", "too long"],
)  # fmt: skip
async def test_an_invalid_request(tmp_path, told, wrong):
    async with ai_openai.endpoint() as it, service(tmp_path, it) as stub:
        await asked(stub, request(**wrong))
    observed = told()
    for mark in MARKED:
        assert mark not in observed, mark


async def test_an_endpoint_that_is_not_there(tmp_path, told):
    async with ai_openai.endpoint() as it:
        pass
    async with service(tmp_path, it, address="127.0.0.1:1") as stub:
        refused = await asked(stub, request())
    assert not any(mark in told() + refused for mark in MARKED)


GIVEN = json.dumps({**json.loads(GOOD), "summary": "[NAME_1] wants a call at [PHONE_1].", "action_items": []})


@pytest.mark.parametrize(
    ("how", "answer", "shown"),
    [
        ({}, GIVEN, "Karen Wolpertinger wants a call at 503-555-0127."),
        ({"keep": True}, GIVEN, "[NAME_1] wants a call at [PHONE_1]."),
        ({"stored": True}, GIVEN, "[NAME_1] wants a call at [PHONE_1]."),
        ({"stored": True}, "no JSON", "my name is [NAME_1]"),
        ({"stored": True, "redacted": False}, GOOD, "my name is [NAME_1]"),
        ({"keep": True}, "no JSON", "my name is Karen Wolpertinger"),
    ],
)
async def test_what_an_analysis_shows_is_the_tenants_choice(tmp_path, how, answer, shown):
    async with ai_openai.endpoint() as it, service(tmp_path, it) as stub:
        it.script = [Scripted(events(answer))] * 3
        made = await stub.AnalyzeCall(request(**how), metadata=signed(), timeout=30)
    assert shown in made.summary
    assert how.get("stored", False) <= ("Wolpertinger" not in str(made))
