"""The engine `vertex`: what it sends, and what it makes of good, odd, slow, and refused answers."""

import json

import grpc
import pytest
from ai_engines_conformance import CALL, ask
from ai_vertex import Finish as Reason
from ai_vertex import Refused, Slow, Vertex, answer, blocked, chunk, counted, settings
from google.protobuf import json_format
from trunkline_ai.config import load_config
from trunkline_ai.engines.base import Finish, Prompt
from trunkline_ai.engines.prompted import PromptedEngine
from trunkline_ai.engines.prompts.schemas import TEXT, array, integer, record
from trunkline_ai.engines.vertex.engine import VertexEngine
from trunkline_ai.routing.loader import load_engines
from trunkline_runtime.config import ConfigError
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.testing import KEY_FOLDER

SCHEMA = record(titles=array(TEXT), pages=integer(0, 9))
GOOD = '{"titles": ["a", "é"], "pages": 2}'
PROMPT = Prompt("any.v1", "Name the titles.", '{"turns": []}')
AT_ONCE = {"patience_seconds": 0.0}
Code = grpc.StatusCode


@pytest.fixture
def it():
    with Vertex() as made:
        yield made


async def completed(it, prompt=PROMPT, **more):
    async with VertexEngine(settings(it, **more)) as engine:
        return await engine.complete(prompt, SCHEMA)


async def failed(it, **more):
    with pytest.raises(EngineError) as told:
        await completed(it, **more)
    return told.value


async def test_the_conversation_is_the_users_content_and_the_schema_is_asked_for(it):
    it.script = [answer(GOOD, thought=10)]
    made = await completed(it, input_price_micros=300_000, output_price_micros=2_500_000)
    assert json.loads(made.text) == {"titles": ["a", "é"], "pages": 2}
    assert (made.engine, made.finish) == ("vertex/gemini-x", Finish.DONE)
    usage = made.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cost_micros) == (120, 40, 136)
    (asked,) = it.asked
    assert asked.model == "projects/p-1/locations/us-central1/publishers/google/models/gemini-x"
    assert asked.system_instruction.parts[0].text == PROMPT.instructions
    assert [(c.role, c.parts[0].text) for c in asked.contents] == [("user", PROMPT.data)]
    config = asked.generation_config
    assert (config.response_mime_type, config.thinking_config.thinking_budget) == ("application/json", 0)
    assert json_format.MessageToDict(config._pb.response_json_schema) == SCHEMA


async def test_thinking_is_left_to_the_model_where_that_is_set(it):
    await completed(it, thinking_tokens=-1)
    assert "thinking_config" not in it.asked[0].generation_config


async def test_thoughts_are_no_part_of_the_answer(it):
    it.script = [[chunk("Let me see.", thought=True), *answer(GOOD)]]
    assert (await completed(it)).text == GOOD


async def test_what_cannot_be_true_of_a_count_is_not_charged(it):
    it.script = [answer(GOOD, read=2**31 - 1, wrote=2**30, thought=2**30 - 1)]
    usage = (await completed(it, most_output_tokens=99, thinking_tokens=50)).usage
    assert (usage.input_tokens, usage.output_tokens) == (it.asked[0]._pb.ByteSize(), 149)


async def test_half_a_character_is_replaced_before_it_is_sent(it):
    await completed(it, Prompt("any.v1", "x", "a\ud800b"))
    assert it.asked[0].contents[0].parts[0].text == "a?b"


@pytest.mark.parametrize(
    ("script", "finish"),
    [
        (answer(GOOD[:9], Reason.MAX_TOKENS), Finish.CUT),
        (answer("", Reason.SAFETY), Finish.BLOCKED),
        (answer(GOOD[:4], Reason.PROHIBITED_CONTENT), Finish.BLOCKED),
        (blocked(), Finish.BLOCKED),
        (answer(GOOD, Reason.OTHER), Finish.DONE),
    ],
    ids=["cut", "safety", "prohibited", "prompt", "other"],
)
async def test_an_answer_that_is_cut_or_blocked_is_told_from_bad_json(it, script, finish):
    it.script = [script]
    made = await completed(it)
    assert made.finish is finish
    assert made.usage.input_tokens == 120, "it was paid for"
    assert len(it.asked) == 1, "it is not asked again"


@pytest.mark.parametrize(
    ("refused", "reason", "transient"),
    [
        (Refused(Code.UNAUTHENTICATED), "ENGINE_NOT_READY", True),
        (Refused(Code.PERMISSION_DENIED, "API not enabled"), "ENGINE_NOT_READY", True),
        (Refused(Code.NOT_FOUND, "no model"), "ENGINE_NOT_READY", True),
        (Refused(Code.RESOURCE_EXHAUSTED, "quota", 7), "ENGINE_QUOTA", True),
        (Refused(Code.UNAVAILABLE), "ENGINE_UNREACHABLE", True),
        (Refused(Code.INTERNAL, first=answer(GOOD)[:1]), "ENGINE_UNREACHABLE", True),
        (Refused(Code.DEADLINE_EXCEEDED), "ENGINE_TIMEOUT", True),
        (Refused(Code.INVALID_ARGUMENT, "The input token count exceeds the maximum"), "CONVERSATION_TOO_LONG", False),
        (Refused(Code.INVALID_ARGUMENT, "blocked by safety filters"), "CONTENT_BLOCKED", False),
        (Refused(Code.INVALID_ARGUMENT, "unknown field"), "ENGINE_REFUSED", False),
        ([], "ENGINE_UNREACHABLE", True),
        (answer(GOOD)[:1], "ENGINE_UNREACHABLE", True),
    ],
)  # fmt: skip
async def test_a_refusal_says_whether_asking_again_helps(it, refused, reason, transient):
    it.script = [refused]
    error = await failed(it, **AT_ONCE)
    assert (error.reason, error.transient) == (reason, transient)
    assert error.retry_after == (7 if reason == "ENGINE_QUOTA" else None)


async def test_what_may_pass_is_asked_again_after_the_servers_pause(it):
    it.script = [Refused(Code.RESOURCE_EXHAUSTED, "slow", 0.02), Refused(Code.UNAVAILABLE), answer(GOOD)]
    assert (await completed(it)).text == GOOD
    assert len(it.asked) == 3


async def test_a_slow_first_token_ends_the_request_and_google_is_told(it):
    it.script = [Slow(answer(GOOD), 30)]
    error = await failed(it, first_token_seconds=0.3, request_seconds=5.0, **AT_ONCE)
    assert (error.reason, str(error)) == ("ENGINE_TIMEOUT", "nothing came from Google for 0.3 s")
    assert it.cancelled.wait(10)
    it.script = [Slow(answer(GOOD), 0.1)]
    assert (await failed(it, request_seconds=0.15, **AT_ONCE)).reason == "ENGINE_TIMEOUT"


async def test_a_refused_set_up_is_the_engines_problem_until_it_is_mended(it):
    async with VertexEngine(settings(it)) as engine:
        await engine.complete(PROMPT, SCHEMA)
        it.script = [Refused(Code.PERMISSION_DENIED, "API not enabled")]
        with pytest.raises(EngineError):
            await engine.complete(PROMPT, SCHEMA)
        assert engine.problem == "Google answered PERMISSION_DENIED"
        await engine.complete(PROMPT, SCHEMA)
        assert engine.problem == ""


async def test_without_credentials_it_says_so_and_looks_again(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with Vertex() as it:
        async with VertexEngine(settings(it, endpoint="")) as engine:
            for _ in range(2):
                with pytest.raises(EngineError) as told:
                    await engine.complete(PROMPT, SCHEMA)
                assert (told.value.reason, told.value.transient) == ("ENGINE_NOT_READY", True)
            assert "absent.json" in engine.problem


async def test_an_analysis_goes_all_the_way(it):
    it.script = []
    async with PromptedEngine(VertexEngine(settings(it))) as engine:
        result = await ask(engine, CALL)
        assert (result.engine, result.usage.output_tokens) == ("vertex/gemini-x", 30)
    assert counted().prompt_token_count == result.usage.input_tokens


def test_the_setting_makes_it_and_needs_a_project():
    env = {"TRUNKLINE_AI_ENGINE": "vertex", "TRUNKLINE_AI_KEYS": str(KEY_FOLDER)}
    with pytest.raises(ConfigError, match="TRUNKLINE_AI_VERTEX_PROJECT is required for the engine vertex"):
        load_config(env)
    made = load_engines(load_config({**env, "TRUNKLINE_AI_VERTEX_PROJECT": "p-1"}))["vertex"]
    assert made.name == "vertex/gemini-2.5-flash"
