import asyncio
from dataclasses import replace

import grpc
import pytest
from trunkline.ai.v1 import analysis_pb2, analysis_service_pb2, analysis_service_pb2_grpc
from trunkline.audio.v1 import transcript_pb2
from trunkline.common.v1 import analysis_settings_pb2 as settings_pb2
from trunkline.common.v1 import labels_pb2
from trunkline_ai.app import build
from trunkline_ai.config import AiConfig
from trunkline_ai.engines.base import LanguageCapabilities
from trunkline_ai.engines.local.engine import LocalEngine
from trunkline_runtime.config import ConfigError
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.identity.callers import Caller, CallerKind
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.testing import KEY_FOLDER

CALL = "tenants/acme/calls/call-1"
SEGMENTS = [
    (transcript_pb2.SPEAKER_AGENT, "thank you for calling ace plumbing"),
    (transcript_pb2.SPEAKER_CUSTOMER, "a pipe burst in my basement there is water everywhere please hurry"),
    (transcript_pb2.SPEAKER_CUSTOMER, "the address is twenty five main street"),
]


class Counting(LocalEngine):
    asked = 0

    async def analyze(self, transcript, context):
        self.asked += 1
        return await super().analyze(transcript, context)


class Broken:
    name = "broken/1"
    problem = ""
    capabilities = LanguageCapabilities()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def analyze(self, transcript, context):
        raise EngineError("QUOTA", "quota", transient=True)


def transcript(segments=SEGMENTS, **facts):
    return transcript_pb2.Transcript(
        segments=[transcript_pb2.Segment(speaker=speaker, text=text) for speaker, text in segments], **facts
    )


def ask(call=CALL, **fields):
    if "text" not in fields:
        fields.setdefault("transcript", transcript())
    return analysis_service_pb2.AnalyzeCallRequest(parent="tenants/acme", call=call, **fields)


@pytest.fixture
def config(tmp_path):
    return AiConfig(
        grpc_address="127.0.0.1:0",
        metrics_address="",
        store_url=f"sqlite:///{tmp_path}/ai.db",
        keys=KEY_FOLDER,
        drain_seconds=0.1,
        drain_notice_seconds=0.0,
    )


@pytest.fixture
def engine():
    return Counting()


@pytest.fixture
async def server(config, engine):
    async with build(config, engine=engine) as parts, parts.running() as serving:
        await serving.health.wait_serving()
        yield serving


@pytest.fixture
async def stub(server):
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield analysis_service_pb2_grpc.AnalysisServiceStub(channel)


def signed(service="gateway", tenant=None):
    return (("authorization", f"Bearer {TokenSigner(KEY_FOLDER, service).service_token(tenant)}"),)


async def test_a_call_is_analysed_and_shown_by_name(stub):
    made = await stub.AnalyzeCall(ask(), metadata=signed())
    assert made.intent == labels_pb2.INTENT_EMERGENCY_SERVICE
    assert made.lead_level == labels_pb2.LEAD_LEVEL_HIGH
    assert made.sentiment == labels_pb2.SENTIMENT_NEGATIVE
    assert made.urgency == 3
    assert not made.spam
    assert made.engine.startswith("local/")
    assert not made.HasField("usage"), "nothing that is counted"
    assert made.call == CALL
    assert analysis_pb2.ENTITY_TYPE_ADDRESS in {entity.type for entity in made.entities}
    shown = await stub.GetAnalysis(analysis_service_pb2.GetAnalysisRequest(name=made.name), metadata=signed())
    assert shown == made


async def test_the_same_input_is_analysed_once_and_a_higher_generation_anew(stub, engine):
    first = await stub.AnalyzeCall(ask(), metadata=signed())
    again = await stub.AnalyzeCall(ask(), metadata=signed())
    assert again == first
    assert engine.asked == 1
    anew = await stub.AnalyzeCall(ask(generation=1), metadata=signed())
    assert anew.name != first.name
    assert engine.asked == 2


async def test_another_call_or_other_words_are_another_analysis(stub):
    first = await stub.AnalyzeCall(ask(), metadata=signed())
    other_call = await stub.AnalyzeCall(ask(call="tenants/acme/calls/call-2"), metadata=signed())
    other_words = await stub.AnalyzeCall(ask(text="are you open on sunday"), metadata=signed())
    assert len({first.name, other_call.name, other_words.name}) == 3
    assert other_words.intent == labels_pb2.INTENT_INFORMATION


async def test_timings_do_not_make_another_analysis(stub):
    late = transcript()
    late.segments[0].start_offset.FromSeconds(3)
    first = await stub.AnalyzeCall(ask(), metadata=signed())
    assert (await stub.AnalyzeCall(ask(transcript=late), metadata=signed())).name == first.name


async def test_a_time_that_no_clock_holds_is_refused_by_its_name(stub):
    late = transcript()
    late.segments[1].end_offset.seconds = 2**62
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.AnalyzeCall(ask(transcript=late), metadata=signed())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().startswith("transcript.segments[1].end_offset: ")


async def test_an_unreliable_transcript_is_told_and_gets_no_intent(stub):
    spanish = transcript(
        [(transcript_pb2.SPEAKER_CUSTOMER, "way no see us a plumber quote")], unreliable=True
    )
    made = await stub.AnalyzeCall(ask(transcript=spanish), metadata=signed())
    assert (made.unreliable, made.unreliable_reason) == (True, "low_confidence")
    assert made.intent == labels_pb2.INTENT_OTHER
    assert made.lead_level == labels_pb2.LEAD_LEVEL_NONE


async def test_a_call_in_a_language_that_is_not_analysed_says_so_and_is_shown_so(stub):
    spanish = transcript([(transcript_pb2.SPEAKER_CUSTOMER, "¿Cuánto cuesta un baño nuevo?")], language="es")
    made = await stub.AnalyzeCall(ask(transcript=spanish), metadata=signed())
    assert (made.unreliable, made.unreliable_reason) == (True, "language_not_analysed")
    assert made.summary == "The call is in Spanish and was not analysed."
    assert (made.intent, made.lead_score) == (labels_pb2.INTENT_OTHER, 0)
    shown = await stub.GetAnalysis(analysis_service_pb2.GetAnalysisRequest(name=made.name), metadata=signed())
    assert shown == made
    page = analysis_service_pb2.ListAnalysesRequest(parent="tenants/acme")
    assert list((await stub.ListAnalyses(page, metadata=signed())).analyses) == [made]


async def test_silence_is_no_conversation(stub):
    made = await stub.AnalyzeCall(ask(transcript=transcript([])), metadata=signed())
    assert made.intent == labels_pb2.INTENT_NO_CONVERSATION


async def test_lists_page_from_the_latest_without_gap_or_repeat(stub):
    names = []
    for number in range(5):
        made = await stub.AnalyzeCall(ask(call=f"tenants/acme/calls/call-{number}"), metadata=signed())
        names.append(made.name)
    seen, token = [], ""
    while True:
        page = await stub.ListAnalyses(
            analysis_service_pb2.ListAnalysesRequest(parent="tenants/acme", page_size=2, page_token=token),
            metadata=signed(),
        )
        seen += [analysis.name for analysis in page.analyses]
        token = page.next_page_token
        if not token:
            break
    assert sorted(seen) == sorted(names)
    times = [
        (
            await stub.GetAnalysis(analysis_service_pb2.GetAnalysisRequest(name=name), metadata=signed())
        ).create_time.ToDatetime()
        for name in seen
    ]
    assert times == sorted(times, reverse=True)


async def test_a_deleted_analysis_is_gone(stub):
    made = await stub.AnalyzeCall(ask(), metadata=signed())
    request = analysis_service_pb2.DeleteAnalysisRequest(name=made.name)
    await stub.DeleteAnalysis(request, metadata=signed())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.DeleteAnalysis(request, metadata=signed())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("request_of", "code"),
    [
        (ask(call="tenants/other/calls/call-1"), grpc.StatusCode.INVALID_ARGUMENT),
        (
            analysis_service_pb2.AnalyzeCallRequest(parent="tenants/acme", call=CALL),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (ask(text="x" * 100_001), grpc.StatusCode.INVALID_ARGUMENT),
        (ask(settings={"labels": [{"name": "a"}, {"name": "a"}]}), grpc.StatusCode.INVALID_ARGUMENT),
        (ask(settings={"labels": [{"name": 'a"'}]}), grpc.StatusCode.INVALID_ARGUMENT),
        (
            ask(settings={"labels": [{"name": "a", "examples": ["x" * 201]}]}),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (ask(settings={"questions": [{"id": "q", "text": "?"}]}), grpc.StatusCode.INVALID_ARGUMENT),
        (
            ask(settings={"questions": [{"id": "Q", "text": "?", "form": 1}]}),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (ask(settings={"keywords": [{"phrases": ["x"]}]}), grpc.StatusCode.INVALID_ARGUMENT),
        (
            ask(settings={"keywords": [{"name": f"a{n}", "phrases": ["x"]} for n in range(101)]}),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
)
async def test_wrong_requests_are_refused(stub, request_of, code):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.AnalyzeCall(request_of, metadata=signed())
    assert caught.value.code() is code


async def test_a_foreign_name_looks_as_if_it_were_not_there(stub):
    made = await stub.AnalyzeCall(ask(), metadata=signed())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetAnalysis(
            analysis_service_pb2.GetAnalysisRequest(name=made.name), metadata=signed(tenant="other")
        )
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_an_engine_that_fails_is_stood_in_for_and_that_is_told(config):
    async with (
        build(config, engine=Broken()) as parts,
        parts.running() as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await server.health.wait_serving()
        stub = analysis_service_pb2_grpc.AnalysisServiceStub(channel)
        made = await stub.AnalyzeCall(ask(), metadata=signed())
    assert made.degraded
    assert made.engine.startswith("local/")
    assert made.intent == labels_pb2.INTENT_EMERGENCY_SERVICE


class Healing(Counting):
    """Fails as often as it is told to, then answers under another name than the local engine's."""

    name = "healing/1"
    failures = 2

    async def analyze(self, transcript, context):
        result = await super().analyze(transcript, context)
        if self.asked <= self.failures:
            raise EngineError("DOWN", "down", transient=True)
        return replace(result, engine=self.name)


async def test_a_degraded_analysis_is_made_again_and_then_stays(config):
    engine = Healing()
    async with (
        build(config, engine=engine) as parts,
        parts.running() as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await server.health.wait_serving()
        stub = analysis_service_pb2_grpc.AnalysisServiceStub(channel)
        first, still, healed = [await stub.AnalyzeCall(ask(), metadata=signed()) for _ in range(3)]
        engine.failures = 99
        later = await stub.AnalyzeCall(ask(), metadata=signed())
        read = await stub.GetAnalysis(
            analysis_service_pb2.GetAnalysisRequest(name=first.name), metadata=signed()
        )
    assert first.degraded
    assert still == first
    assert (healed.name, healed.degraded, healed.engine) == (first.name, False, "healing/1")
    assert later == read == healed, "a good analysis is not asked for again, whatever the engine does"
    assert engine.asked == 3


async def test_a_model_of_ones_own_analyses_by_its_completions(config):
    own = replace(config, engines=("tests.standins.completing_ai:create",))
    async with (
        build(own) as parts,
        parts.running() as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await server.health.wait_serving()
        stub = analysis_service_pb2_grpc.AnalysisServiceStub(channel)
        made = await stub.AnalyzeCall(ask(), metadata=signed())
        shown = await stub.GetAnalysis(
            analysis_service_pb2.GetAnalysisRequest(name=made.name), metadata=signed()
        )
    assert (made.engine, made.degraded) == ("completing/standin", False)
    assert made.usage.input_tokens > 0
    assert made.usage.cost_micros == 7
    assert shown == made
    assert made.intent == labels_pb2.INTENT_EMERGENCY_SERVICE, "the first of the schema's labels"


async def test_the_service_serves_without_its_engine_and_tells_why_it_is_not_ready(config):
    engine = Broken()
    engine.problem = "its key is missing"
    async with build(config, engine=engine) as parts, parts.running() as server:
        await asyncio.wait_for(server.health.wait_serving(), 20)
        assert server.health.told() == (True, "ok\nengine broken/1: its key is missing")


async def test_an_engine_that_cannot_be_loaded_is_named_at_start(config):
    wrong = AiConfig(keys=KEY_FOLDER, store_url=config.store_url, engines=("nowhere:nothing",))
    with pytest.raises(ConfigError, match="TRUNKLINE_AI_ENGINE"):
        async with build(wrong):
            pass


async def test_a_transcript_is_never_logged(stub, capfd):
    secret = "my password is hunter2 zebra and i need a plumber"
    await stub.AnalyzeCall(ask(text=secret), metadata=signed())
    logged = capfd.readouterr()
    assert "zebra" not in logged.out + logged.err


class Refusing(Healing):
    """Refuses for good, until it is another engine's turn."""

    async def analyze(self, transcript, context):
        self.asked += 1
        if self.asked == 1 and self.failures > 1:
            raise EngineError("DOWN", "down", transient=True)
        raise EngineError("CONTENT_BLOCKED", "this conversation is not for me", transient=False)


@pytest.mark.parametrize("failures", [1, 2], ids=["at_once", "after_an_outage"])
async def test_a_refusal_for_good_is_one_degraded_final_answer(config, failures):
    engine = Refusing()
    engine.failures = failures
    async with (
        build(config, engine=engine) as parts,
        parts.running() as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await server.health.wait_serving()
        stub = analysis_service_pb2_grpc.AnalysisServiceStub(channel)
        answers = [await stub.AnalyzeCall(ask(), metadata=signed()) for _ in range(4)]
        anew = await stub.AnalyzeCall(ask(generation=1), metadata=signed())
    assert [(a.degraded, a.final) for a in answers] == [(True, False)] * (failures - 1) + [(True, True)] * (
        5 - failures
    )
    assert anew.name != answers[-1].name
    assert engine.asked == failures + 1


class Operators:
    """Takes every caller for an operator."""

    async def authenticate(self, token):
        return Caller(CallerKind.OPERATOR, subject="o1")


async def test_what_an_operator_leaves_open_is_as_the_tenant_is_set_to(config, engine):
    keywords = [settings_pb2.TrackedKeyword(name="water", phrases=["water everywhere"])]
    private = settings_pb2.AnalysisSettings(policy=settings_pb2.ANALYSIS_POLICY_PRIVATE, keywords=keywords)
    outside = settings_pb2.AnalysisSettings(policy=settings_pb2.ANALYSIS_POLICY_QUALITY)
    asked = []

    async def settings_of(tenant):
        asked.append(tenant)
        return private

    operator = (("authorization", "Bearer tl_operator"),)
    engine.capabilities = LanguageCapabilities()
    made = build(config, engine=engine, authenticator=Operators(), settings_of=settings_of)
    async with (
        made as parts,
        parts.running() as serving,
        grpc.aio.insecure_channel(serving.address) as channel,
    ):
        stub = analysis_service_pb2_grpc.AnalysisServiceStub(channel)
        left = await stub.AnalyzeCall(ask(), metadata=operator)
        assert [one.keyword for one in left.keywords] == ["water"]
        assert (asked, engine.asked) == (["acme"], 0), "nothing goes to an engine outside"
        told = await stub.AnalyzeCall(ask(generation=1, settings=outside), metadata=operator)
        assert (list(told.keywords), asked, engine.asked) == ([], ["acme"], 1)


async def test_nothing_is_analysed_while_a_tenants_settings_are_not_known(config, engine):
    config = replace(config, tenant_address="127.0.0.1:1")
    async with (
        build(config, engine=engine, authenticator=Operators()) as parts,
        parts.running() as serving,
        grpc.aio.insecure_channel(serving.address) as channel,
    ):
        stub = analysis_service_pb2_grpc.AnalysisServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.AnalyzeCall(ask(), metadata=(("authorization", "Bearer tl_operator"),))
    assert (refused.value.code(), engine.asked) == (grpc.StatusCode.UNAVAILABLE, 0)
