"""The engine `openai`: what it sends, and what it makes of good, odd, slow, and refused answers."""

import asyncio
import gzip
import json

import pytest
from ai_engines_conformance import CALL, ask
from ai_openai import PATH, Scripted, endpoint, events, refusal, settings
from trunkline_ai.config import AiConfig
from trunkline_ai.engines.base import Finish, Prompt
from trunkline_ai.engines.openai.engine import OpenAiEngine
from trunkline_ai.engines.prompted import PromptedEngine
from trunkline_ai.engines.prompts import analyse_call
from trunkline_ai.engines.prompts.schemas import TEXT, array, record
from trunkline_ai.routing.loader import load_engines
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.testing import KEY_FOLDER

SCHEMA = record(titles=array(TEXT))
GOOD = '{"titles": ["a", "é"]}'
PROMPT = Prompt("any.v1", "Name the titles.", '{"turns": []}')
AT_ONCE = {"patience_seconds": 0.0}


async def completed(it, **more):
    async with OpenAiEngine(settings(it, **more)) as engine:
        return await engine.complete(PROMPT, SCHEMA)


async def failed(it, **more):
    with pytest.raises(EngineError) as told:
        await completed(it, **more)
    return told.value


async def test_the_conversation_is_the_users_message_and_the_schema_is_asked_for():
    async with endpoint() as it:
        it.script = [Scripted(events(GOOD))]
        made = await completed(
            it, key="sk-1", input_price_micros=400_000, output_price_micros=1_600_000, most_output_tokens=99
        )
        assert json.loads(made.text) == {"titles": ["a", "é"]}
        assert (made.engine, made.finish) == ("openai/m-1", Finish.DONE)
        assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.cost_micros) == (120, 30, 96)
        (asked,) = it.asked
        assert [(m["role"], m["content"]) for m in asked["messages"]] == [
            ("system", PROMPT.instructions),
            ("user", PROMPT.data),
        ]
        assert asked["response_format"]["json_schema"] == {"name": "any_v1", "schema": SCHEMA, "strict": True}
        assert (asked["model"], asked["max_completion_tokens"], asked["stream"]) == ("m-1", 99, True)
        assert it.paths == [PATH]
        assert it.heads[0]["authorization"] == "Bearer sk-1"
        assert it.heads[0]["accept-encoding"] == "identity"


async def test_without_a_key_none_is_sent():
    async with endpoint() as it:
        await completed(it)
        assert "authorization" not in it.heads[0]


@pytest.mark.parametrize(("form", "asked"), [("object", {"type": "json_object"}), ("text", None)])
async def test_an_endpoint_that_takes_no_schema_is_told_it_in_words(form, asked):
    async with endpoint() as it:
        it.script = [Scripted(events(f"```json\n{GOOD}\n```"))]
        made = await completed(it, answer_form=form)
        assert json.loads(made.text) == {"titles": ["a", "é"]}
        assert it.asked[0].get("response_format") == asked
        assert json.dumps(SCHEMA) in it.asked[0]["messages"][0]["content"]
        assert it.asked[0]["messages"][1]["content"] == PROMPT.data


async def test_an_endpoint_that_does_not_stream_is_read_too():
    message = {"choices": [{"message": {"content": GOOD}, "finish_reason": "stop"}]}
    message["usage"] = {"prompt_tokens": 7, "completion_tokens": 2}
    async with endpoint() as it:
        it.script = [Scripted([json.dumps(message)], kind="application/json")]
        made = await completed(it)
        assert (json.loads(made.text), made.usage.input_tokens) == ({"titles": ["a", "é"]}, 7)


@pytest.mark.parametrize(
    ("pieces", "finish"),
    [
        (events(GOOD[:9], "length"), Finish.CUT),
        (events("", "content_filter"), Finish.BLOCKED),
        (
            [
                'data: {"choices": [{"delta": {"refusal": "I cannot help with that"}}]}\n\n',
                'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n',
            ],
            Finish.BLOCKED,
        ),
    ],
    ids=["cut", "filtered", "refused"],
)
async def test_an_answer_that_is_cut_or_refused_is_told_from_bad_json(pieces, finish):
    async with endpoint() as it:
        it.script = [Scripted(pieces)]
        assert (await completed(it)).finish is finish
        assert len(it.asked) == 1, "it is not asked again"


async def test_a_server_that_sends_comments_odd_events_and_pieces_of_letters_is_read():
    whole = "".join([": ping\n\n", "event: x\nid: 1\n", *events(GOOD, usage=False)]).replace("\n", "\r\n")
    body = whole.encode()
    async with endpoint() as it:
        it.script = [Scripted([body[i : i + 7] for i in range(0, len(body), 7)])]
        made = await completed(it)
        assert json.loads(made.text) == {"titles": ["a", "é"]}


async def test_what_cannot_be_true_of_a_count_is_not_charged():
    told = {"choices": [], "usage": {"prompt_tokens": 2**40, "completion_tokens": 2**31 - 1}}
    async with endpoint() as it:
        it.script = [Scripted([f"data: {json.dumps(told)}\n\n", *events(GOOD, usage=False)])]
        usage = (await completed(it, most_output_tokens=99)).usage
        sent = int(it.heads[0]["content-length"])
        assert (usage.input_tokens, usage.output_tokens) == (sent, 99)


@pytest.mark.parametrize(("price", "unpriced"), [(1_000_000, True), (0, False)])
async def test_what_is_not_counted_is_guessed_and_charged_as_a_guess(price, unpriced):
    async with endpoint() as it:
        it.script = [Scripted(events(GOOD, usage=False))]
        usage = (await completed(it, input_price_micros=price, output_price_micros=price)).usage
        sent = int(it.heads[0]["content-length"])
        assert (usage.input_tokens, usage.output_tokens) == (sent // 4, -(-len(GOOD.encode()) // 4))
        assert usage.cost_micros == (usage.input_tokens + usage.output_tokens) * price // 1_000_000
        assert usage.unpriced == unpriced


@pytest.mark.parametrize(
    ("answer", "reason", "transient"),
    [
        (refusal(401, "invalid_api_key", "Incorrect API key"), "ENGINE_NOT_READY", True),
        (refusal(404, "model_not_found", "no model m-1"), "ENGINE_NOT_READY", True),
        (refusal(429, "insufficient_quota", "check your plan"), "ENGINE_NOT_READY", True),
        (refusal(402, "", "no balance"), "ENGINE_NOT_READY", True),
        (refusal(403, "model_not_found", "no access to m-1"), "ENGINE_NOT_READY", True),
        (refusal(403, "", "insufficient_quota: blocked by the firewall"), "ENGINE_REFUSED", False),
        (refusal(400, "invalid_request_error", "enum value 'insufficient_quota' is reserved"), "ENGINE_REFUSED", False),
        (refusal(400, "insufficient_quota", "echo"), "ENGINE_REFUSED", False),
        (refusal(400, "bad", "label 'content_filter' is odd"), "ENGINE_REFUSED", False),
        (refusal(400, "", "maximum context length is 8192"), "CONVERSATION_TOO_LONG", False),
        (refusal(429, "rate_limit_exceeded", retry_after="7"), "ENGINE_QUOTA", True),
        (refusal(503), "ENGINE_UNREACHABLE", True),
        (refusal(400, "content_filter", "flagged"), "CONTENT_BLOCKED", False),
        (refusal(400, "context_length_exceeded", "too long"), "CONVERSATION_TOO_LONG", False),
        (refusal(400, "bad", "unknown field"), "ENGINE_REFUSED", False),
        (Scripted([b""], 302, headers={"location": "http://127.0.0.1:1/"}), "ENGINE_REFUSED", False),
        (Scripted(["<html>"], 502, kind="text/html"), "ENGINE_UNREACHABLE", True),
        (Scripted(["data: [1]\n\n"]), "ENGINE_UNREACHABLE", True),
        (Scripted(['data: {"error": {"message": "overloaded"}}\n\n']), "ENGINE_UNREACHABLE", True),
        (Scripted(events(GOOD)[:2], cut=True), "ENGINE_UNREACHABLE", True),
        (Scripted(events(GOOD)[:2]), "ENGINE_UNREACHABLE", True),
        (Scripted(["data: " + "[" * 100_000 + "\n\n"]), "ENGINE_UNREACHABLE", True),
        (Scripted(["data: ", *["x" * 100_000] * 12]), "ENGINE_UNREACHABLE", True),
        (Scripted(["[]"], kind="application/json"), "ENGINE_UNREACHABLE", True),
    ],
)  # fmt: skip
async def test_a_refusal_says_whether_asking_again_helps(answer, reason, transient):
    async with endpoint() as it:
        it.script = [answer]
        error = await failed(it, **AT_ONCE)
        assert (error.reason, error.transient) == (reason, transient)
        assert error.retry_after == (7 if "retry-after" in answer.headers else None)
        assert len(str(error)) < 400
        assert "\n" not in str(error)


async def test_what_may_pass_is_asked_again_after_the_servers_pause():
    async with endpoint() as it:
        it.script = [refusal(429, retry_after_ms="20"), refusal(500), Scripted(events(GOOD))]
        assert (await completed(it)).text == GOOD
        assert len(it.asked) == 3


async def test_a_pause_beyond_the_patience_is_not_waited_for():
    async with endpoint() as it:
        it.script = [refusal(429, retry_after="600")]
        error = await failed(it, patience_seconds=5.0)
        assert (error.reason, error.retry_after, len(it.asked)) == ("ENGINE_QUOTA", 600, 1)


@pytest.mark.parametrize(
    ("kind", "pieces"),
    [
        ("text/event-stream", ["data: ", *["x"] * 10_500]),
        ("text/event-stream", ["data: {}\n\n" * 6_000]),
        ("text/event-stream", [":\n" * 11_000]),
        ("text/event-stream", ["x" * 100_000] * 3),
        ("application/json", ["x" * 100_000] * 3),
    ],
    ids=["letters", "events", "comments", "line", "body"],
)
async def test_an_answer_that_does_not_end_is_given_up(kind, pieces):
    async with endpoint() as it:
        it.script = [Scripted([*pieces, "x"], kind=kind, pauses=[0] * len(pieces) + [30])]
        error = await failed(it, most_output_tokens=16, **AT_ONCE)
        assert str(error) == "what the endpoint sent cannot be read: the answer does not end"


async def test_what_is_packed_is_not_unpacked():
    packed = gzip.compress(b" " * 10_000_000)
    async with endpoint() as it:
        it.script = [Scripted([packed], kind="application/json", headers={"content-encoding": "gzip"})]
        assert (await failed(it, **AT_ONCE)).reason == "ENGINE_UNREACHABLE"


async def test_a_redirect_is_not_followed_and_the_key_goes_nowhere():
    async with endpoint() as other, endpoint() as it:
        for status in (301, 302, 307, 308):
            it.script = [Scripted([b""], status, headers={"location": f"{other.url}/chat/completions"})]
            error = await failed(it, key="sk-secret", **AT_ONCE)
            assert (error.reason, error.transient) == ("ENGINE_REFUSED", False)
        assert other.asked == []


async def test_a_slow_first_token_and_a_stall_end_the_request():
    async with endpoint() as it:
        it.script = [Scripted(events(GOOD), pauses=[30])]
        assert (await failed(it, first_token_seconds=0.2, **AT_ONCE)).reason == "ENGINE_TIMEOUT"
        it.script = [Scripted(events(GOOD), pauses=[0, 0, 30])]
        assert (await failed(it, first_token_seconds=0.2, **AT_ONCE)).reason == "ENGINE_TIMEOUT"
        it.script = [Scripted(events(GOOD), pauses=[0.05] * 99)]
        assert (await failed(it, request_seconds=0.1, **AT_ONCE)).reason == "ENGINE_TIMEOUT"


async def test_nobody_there_is_an_outage():
    async with endpoint() as it:
        pass
    assert (await failed(it, **AT_ONCE)).reason == "ENGINE_UNREACHABLE"


async def test_so_many_requests_are_open_at_once():
    async with endpoint() as it, OpenAiEngine(settings(it, requests_at_once=3)) as engine:
        it.script = [Scripted(events(GOOD), pauses=[0.02]) for _ in range(12)]
        await asyncio.gather(*(engine.complete(PROMPT, SCHEMA) for _ in range(12)))
        assert it.most_open == 3


async def test_a_wrong_key_is_the_engines_problem_until_it_is_mended():
    async with endpoint() as it, OpenAiEngine(settings(it)) as engine:
        assert engine.problem == ""
        it.script = [refusal(401, "invalid_api_key", "Incorrect API key")]
        with pytest.raises(EngineError):
            await engine.complete(PROMPT, SCHEMA)
        assert engine.problem == "the endpoint answered 401: invalid_api_key"
        assert len(it.asked) == 1, "a wrong key is not tried again and again"
        await engine.complete(PROMPT, SCHEMA)
        assert engine.problem == ""


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (refusal(401, "invalid_api_key", "No key for: blue heron"), ": invalid_api_key"),
        (refusal(401, "blue heron", "blue\nheron"), ""),
        (Scripted(['{"error": "blue heron"}'], 401, kind="application/json"), ""),
    ],
)
async def test_what_a_provider_repeats_of_the_conversation_is_not_in_the_problem(answer, problem):
    async with endpoint() as it, OpenAiEngine(settings(it)) as engine:
        it.script = [answer]
        with pytest.raises(EngineError) as told:
            await engine.complete(PROMPT, SCHEMA)
        assert engine.problem == str(told.value) == f"the endpoint answered 401{problem}"


async def test_an_analysis_goes_all_the_way():
    async with endpoint() as it, PromptedEngine(OpenAiEngine(settings(it))) as engine:
        result = await ask(engine, CALL)
        assert (result.engine, result.usage.output_tokens) == ("openai/m-1", 30)
        assert (
            it.asked[0]["messages"][1]["content"]
            == analyse_call.prompt_of(CALL.transcript, CALL.context).data
        )


def test_the_setting_makes_it():
    made = load_engines(AiConfig(keys=KEY_FOLDER, engines=("openai",)))["openai"]
    assert made.name == "openai/gpt-4.1-mini"


async def test_a_slow_answer_is_overtaken_by_a_second_request_and_given_up():
    async with endpoint() as it, OpenAiEngine(settings(it, hedged=True)) as engine:
        for _ in range(20):
            await engine.complete(PROMPT, SCHEMA)
        it.script = [Scripted(events("{}"), pauses=[30.0])]
        async with asyncio.timeout(10):
            assert (await engine.complete(PROMPT, SCHEMA)).text != "{}"
        assert len(it.asked) == 22
        async with asyncio.timeout(10):
            await engine.complete(PROMPT, SCHEMA)
