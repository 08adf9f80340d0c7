"""The engine `openai` against a real server of its protocol: llama.cpp's, with a small model whose answers are poor."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from ai_wire import nothing, wire
from trunkline_ai.engines.base import Finish, Prompt
from trunkline_ai.engines.openai.engine import OpenAiEngine
from trunkline_ai.engines.openai.settings import OpenAiSettings
from trunkline_ai.engines.prompts import analyse_call
from trunkline_ai.engines.prompts.schemas import integer, record
from trunkline_runtime.engines.base import EngineError

from tools.install import LLAMA
from tools.packages import ROOT

SCHEMA = record(pages=integer(0, 9), kind={"type": "string", "enum": ["book", "letter"]})
# Long whatever the model would say: it may end a text after a word, and then write spaces.
STORY = record(story={"type": "string", "minLength": 300})
PROMPT = Prompt("any.v1", "Answer about the text.", '{"turns": [{"text": "a letter of two pages"}]}')
LONG = Prompt("any.v1", "Tell a story of a thousand words.", '{"turns": []}')
MIDDLE_BYTES = 1_000
"""So far into an answer a few of its tokens have come."""


@contextmanager
def served():
    if not LLAMA.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("llama.cpp's server is not here")
        pytest.skip(
            "llama.cpp's server is not here: `make tools` fetches it, where there is a package for the machine"
        )
    command = [sys.executable, "-m", "tests.standins.llama", str(LLAMA)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def url():
    with served() as (address, _):
        yield address


def settings(url, **more):
    return OpenAiSettings(**{"url": f"{url}/v1", "model": "smollm2", "patience_seconds": 0.0, **more})


async def completed(url, prompt=PROMPT, schema=SCHEMA, **more):
    async with OpenAiEngine(settings(url, **more)) as engine:
        return await engine.complete(prompt, schema)


async def failed(url, prompt=PROMPT, schema=SCHEMA, **more):
    with pytest.raises(EngineError) as told:
        await completed(url, prompt, schema, **more)
    return told.value


async def test_an_answer_keeps_to_the_schema_and_its_tokens_are_counted(url):
    priced = {"input_price_micros": 1_000_000, "output_price_micros": 2_000_000}
    made = await completed(url, **priced)
    told = json.loads(made.text)
    assert set(told) == {"pages", "kind"}
    assert told["pages"] in range(10)
    assert told["kind"] in ("book", "letter")
    assert made.finish is Finish.DONE
    read, wrote = made.usage.input_tokens, made.usage.output_tokens
    assert 20 < read < 100
    assert 5 < wrote < 50
    assert made.usage.cost_micros == read + 2 * wrote


@pytest.mark.parametrize("form", ["object", "text"])
async def test_an_answer_without_a_schema_is_read_as_well(url, form):
    made = await completed(url, answer_form=form, most_output_tokens=20)
    assert made.text
    assert 0 < made.usage.output_tokens <= 20


async def test_an_answer_that_is_cut_at_the_limit_of_tokens_is_told_from_bad_json(url):
    made = await completed(url, LONG, STORY, most_output_tokens=16)
    assert (made.finish, made.usage.output_tokens) == (Finish.CUT, 16)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(made.text)


async def test_the_whole_schema_of_an_analysis_is_taken(url):
    made = await completed(url, PROMPT, analyse_call.SCHEMA, most_output_tokens=24)
    assert made.finish is Finish.CUT
    assert made.text.startswith("{")


async def test_the_first_token_and_the_whole_answer_have_their_times(url):
    async with wire(url, nothing) as silent:
        late = await failed(silent, first_token_seconds=0.1)
    assert (late.reason, late.transient) == ("ENGINE_TIMEOUT", True)

    async def slowly(_passed):
        await asyncio.sleep(0.05)  # the shortest of answers takes more than a second so
        return True

    # Tokens come all the time here: it is the whole that takes too long.
    async with wire(url, slowly) as slow:
        whole = await failed(slow, LONG, STORY, request_seconds=1.0)
    assert (whole.reason, str(whole)) == ("ENGINE_TIMEOUT", "the answer took more than 1 s")
    assert (await completed(url)).finish is Finish.DONE, "it serves on"


async def test_a_conversation_that_is_too_long_is_refused_for_good(url):
    error = await failed(url, Prompt("any.v1", "Answer.", "word " * 1_000))
    assert (error.reason, error.transient) == ("CONVERSATION_TOO_LONG", False)


async def test_askers_at_once_get_an_answer_each(url):
    async with OpenAiEngine(settings(url, requests_at_once=3)) as engine:
        made = await asyncio.gather(*(engine.complete(PROMPT, SCHEMA) for _ in range(3)))
    assert [one.finish for one in made] == [Finish.DONE] * 3


async def test_a_server_that_goes_in_the_middle_of_an_answer_is_an_outage():
    with served() as (address, process):
        for sent, seconds, reason, told in (
            (signal.SIGSTOP, 4.0, "ENGINE_TIMEOUT", "nothing came from the endpoint for 4 s"),
            # However long a busy machine takes to read the prompt.
            (signal.SIGKILL, 60.0, "ENGINE_UNREACHABLE", "the endpoint: RemoteProtocolError"),
        ):

            async def middle(passed, sent=sent):
                # What a fast server has said beyond this by then does not arrive.
                if passed >= MIDDLE_BYTES:
                    process.send_signal(sent)
                return passed < MIDDLE_BYTES

            async with wire(address, middle) as broken:
                error = await failed(broken, LONG, STORY, first_token_seconds=seconds)
            assert (error.reason, error.transient, str(error)) == (reason, True, told)
            process.send_signal(signal.SIGCONT)
        process.wait()
        assert (await failed(address)).reason == "ENGINE_UNREACHABLE"
