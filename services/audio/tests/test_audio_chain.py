"""The chain of engines: which one answers, what the transcript says of it, and that a degraded one is made again."""

import asyncio
from dataclasses import replace

import pytest
from test_audio_service import PARENT, TestEngine, failing, serving
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_audio.engines.base import SpeechCapabilities
from trunkline_audio.engines.chain import EngineChain
from trunkline_audio.media.prepared import RecordingFault
from trunkline_runtime.engines.base import NOT_READY, EngineError
from trunkline_runtime.errors import InvalidArgument
from trunkline_runtime.process.pace import Pace

OUTAGE = EngineError("ENGINE_UNAVAILABLE", "not now", transient=True)
REFUSAL = EngineError("ENGINE_INVALID_ARGUMENT", "not this language", transient=False)
BILLING = EngineError("ENGINE_CLOSED", "no account", transient=False, of_content=False)
CRASH = EngineError("WORKER_DIED", "the process died", transient=True)


class Named(TestEngine):
    """An engine of some name, whose problem and failure a test sets."""

    __test__ = False

    def __init__(self, name, failure=None, problem=""):
        super().__init__()
        self.name = f"{name}/1"
        self.failure = failure
        self.problem = problem
        self.result = replace(self.result, engine=self.name)


def pair(**better):
    return {"better": Named("better", **better), "lesser": Named("lesser")}


async def answer(engines, seconds=10.0, **more):
    chain = more.pop("chain", None) or EngineChain(engines)
    return await chain.answer(lambda engine: engine.transcribe(_Recording()), seconds=seconds, **more)


class _Recording:
    language = ""
    phrases = ()


async def test_the_first_engine_answers_alone():
    engines = pair()
    given = await answer(engines)
    assert (given.result.engine, given.wanted, given.final) == ("better/1", "", False)
    assert engines["lesser"].calls == 0


@pytest.mark.parametrize(
    ("failure", "wanted", "final"),
    [(OUTAGE, "better", False), (CRASH, "better", False), (BILLING, "better", True), (REFUSAL, "", False)],
    ids=["outage", "crash", "the engine refuses everything", "the engine refuses this"],
)
async def test_the_next_engine_answers_and_says_who_was_to(failure, wanted, final):
    given = await answer(pair(failure=failure))
    assert (given.result.engine, given.wanted, given.final) == ("lesser/1", wanted, final)


async def test_an_engine_that_is_not_ready_is_not_asked_while_another_can_answer():
    engines = pair(problem="no model")
    given = await answer(engines)
    assert (given.result.engine, given.wanted) == ("lesser/1", "better")
    assert engines["better"].calls == 0


async def test_where_none_is_ready_the_first_says_why():
    engines = {
        name: Named(
            name, problem="no model", failure=EngineError(NOT_READY, f"no model: {name}", transient=True)
        )
        for name in ("better", "lesser")
    }
    with pytest.raises(EngineError, match="no model: better") as told:
        await answer(engines)
    assert told.value.reason == NOT_READY


async def test_as_long_as_one_may_answer_later_it_is_waited_for():
    engines = pair(failure=REFUSAL)
    engines["lesser"].failure = OUTAGE
    with pytest.raises(EngineError) as told:
        await answer(engines)
    assert told.value is OUTAGE


async def test_what_every_engine_refuses_is_refused():
    engines = pair(failure=REFUSAL)
    engines["lesser"].failure = REFUSAL
    with pytest.raises(EngineError) as told:
        await answer(engines)
    assert not told.value.transient


async def test_a_recording_that_cannot_be_decoded_is_nobody_elses():
    engines = pair(failure=RecordingFault("NOT_AUDIO", "no sound", transient=False))
    with pytest.raises(RecordingFault):
        await answer(engines)
    assert engines["lesser"].calls == 0


async def test_an_engine_that_hangs_is_not_waited_for():
    engines = pair()
    engines["better"].gate = asyncio.Event()
    chain = EngineChain(engines, patience_seconds=0.02)
    given = await answer(engines, chain=chain, seconds=0.0)
    assert (given.result.engine, given.wanted) == ("lesser/1", "better")


async def test_after_outages_in_a_row_an_engine_is_left_alone_and_then_asked_again():
    engines = pair(failure=OUTAGE)
    chain = EngineChain(engines, failures=2, rest_seconds=0.3)
    for _ in range(4):
        assert (await answer(engines, chain=chain)).wanted == "better"
    assert engines["better"].calls == 2
    engines["better"].failure = None
    async with asyncio.timeout(10):
        while (await answer(engines, chain=chain)).wanted:
            await asyncio.sleep(0.02)
    assert engines["better"].calls == 3


async def test_crashes_over_a_recording_do_not_tell_of_an_outage():
    engines = pair(failure=CRASH)
    chain = EngineChain(engines, failures=1, rest_seconds=60)
    for _ in range(3):
        await answer(engines, chain=chain)
    assert engines["better"].calls == 3


async def test_a_recording_that_is_too_long_for_one_goes_to_the_next():
    engines = pair()
    engines["better"].capabilities = SpeechCapabilities(longest_seconds=60)
    given = await answer(engines, seconds=61.0)
    assert (given.result.engine, given.wanted) == ("lesser/1", "")


async def test_nobodys_sound_goes_to_an_engine_before_the_chosen_one():
    engines = pair()
    engines["lesser"].failure = OUTAGE
    with pytest.raises(EngineError):
        await answer(engines, first="lesser")
    assert engines["better"].calls == 0


async def test_an_engine_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(InvalidArgument, match="must be one of better, lesser") as told:
        await answer(pair(), first="none")
    assert told.value.reason == "ENGINE_UNKNOWN"


# Over gRPC

SOON = Pace(intervals={"tasks.look": 0.05})


def serving_chain(tmp_path, engines, **more):
    return serving(
        tmp_path, chain=engines, pace=SOON, degraded_retry_seconds=0.1, engine_failures=1000, **more
    )


async def until_not_degraded(suite, name):
    async with asyncio.timeout(20):
        while (found := await suite.transcripts.GetTranscript(pb.GetTranscriptRequest(name=name))).degraded:
            await asyncio.sleep(0.02)
    return found


async def test_the_request_names_its_engine_and_each_engine_has_its_transcript(tmp_path):
    async with serving_chain(tmp_path, pair()) as suite:
        await suite.fetch()
        default, lesser = await suite.transcribe(), await suite.transcribe(engine="lesser")
        assert (default.engine, lesser.engine) == ("better/1", "lesser/1")
        assert default.name != lesser.name
        assert not lesser.degraded
        assert await suite.transcribe(engine="lesser") == lesser
        for call in (
            suite.transcribe(engine="none"),
            suite.transcripts.TranscribeRecording(
                pb.TranscribeRecordingRequest(name=f"{PARENT}/recordings/rec-1", engine="none")
            ),
        ):
            error = await failing(call)
            assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "ENGINE_UNKNOWN")
            assert "must be one of better, lesser" in error.message


async def test_a_degraded_transcript_is_made_again_in_its_place_when_the_engine_is_back(tmp_path):
    engines = pair(failure=OUTAGE)
    async with serving_chain(tmp_path, engines) as suite:
        await suite.fetch()
        made = await suite.transcribe(language="en-GB", phrases=["Acme"])
        assert (made.engine, made.degraded, made.wanted_engine) == ("lesser/1", True, "better")
        assert not made.degraded_final
        (listed,) = (
            await suite.transcripts.ListTranscripts(pb.ListTranscriptsRequest(parent=PARENT))
        ).transcripts
        assert (listed.degraded, listed.wanted_engine) == (True, "better")
        assert await suite.transcribe(language="en-GB", phrases=["Acme"]) == made, (
            "it is not made by whoever asks"
        )
        engines["better"].failure = None
        better = await until_not_degraded(suite, made.name)
        assert (better.engine, better.wanted_engine) == ("better/1", "")
        assert engines["better"].language == "en-GB"
        assert engines["better"].phrases == ("Acme",)
        assert await suite.transcribe(language="en-GB") == better


async def test_it_is_made_again_after_a_restart(tmp_path):
    engines = pair(failure=OUTAGE)
    async with serving_chain(tmp_path, engines) as suite:
        await suite.fetch()
        made = await suite.transcribe()
    async with serving_chain(tmp_path, pair()) as suite:
        assert (await until_not_degraded(suite, made.name)).engine == "better/1"


async def test_an_engine_with_a_problem_heals_by_being_asked(tmp_path):
    engines = pair(problem="Google refuses")
    async with serving_chain(tmp_path, engines) as suite:
        await suite.fetch()
        made = await suite.transcribe()
        assert made.degraded
        assert (await until_not_degraded(suite, made.name)).engine == "better/1", "nobody else asks it"


async def test_what_the_wanted_engine_refuses_after_all_stays(tmp_path):
    engines = pair(failure=OUTAGE)
    async with serving_chain(tmp_path, engines) as suite:
        await suite.fetch()
        made = await suite.transcribe()
        engines["better"].failure = REFUSAL
        async with asyncio.timeout(20):
            while not (await suite.transcribe()).degraded_final:
                await asyncio.sleep(0.02)
        assert (await suite.transcribe()).engine == made.engine


async def test_an_older_id_stays_where_no_engine_is_named_and_phrases_change_nothing(tmp_path):
    engines = pair()
    async with serving_chain(tmp_path, engines) as suite:
        await suite.fetch()
        made = await suite.transcribe(phrases=["Acme"])
        assert await suite.transcribe(phrases=["Other"]) == made
        assert engines["better"].calls == 1
        again = await suite.transcribe(phrases=["Other"], generation=1)
        assert again.name != made.name
        assert engines["better"].phrases == ("Other",)


@pytest.mark.parametrize(
    "phrases", [["a" * 101], ["a"] * 501, ["a" * 100] * 101, [""]], ids=["long", "many", "all", "empty"]
)
async def test_phrases_are_bounded(tmp_path, phrases):
    async with serving_chain(tmp_path, pair()) as suite:
        error = await failing(suite.transcribe(phrases=phrases))
        assert error.code.name == "INVALID_ARGUMENT"
        assert "phrases" in error.message
        most = ["é" * 100] * 100
        assert (await failing(suite.transcribe(phrases=most))).code.name == "NOT_FOUND"


async def test_a_refusal_is_kept_and_the_engine_not_asked_again_until_it_is_forced(tmp_path):
    engines = pair(failure=REFUSAL)
    async with serving_chain(tmp_path, engines) as suite:
        await suite.fetch()
        made = await suite.transcribe()
        assert (made.engine, made.degraded) == ("lesser/1", False), "the refusal is of this recording"
        engines["lesser"].failure = REFUSAL
        for language in ("fr", "fr"):
            assert (await failing(suite.transcribe(language=language))).code.name == "FAILED_PRECONDITION"
        assert engines["better"].calls == 2, "once for each language"
        assert engines["lesser"].calls == 2
        engines["better"].failure = None
        assert (await failing(suite.transcribe(language="fr"))).code.name == "FAILED_PRECONDITION"
        assert (await suite.transcribe(language="fr", generation=1)).engine == "better/1"


async def test_a_refusal_outlasts_a_restart(tmp_path):
    for failure, calls in ((REFUSAL, 1), (None, 0)):
        engines = {"only": Named("only", failure=failure)}
        async with serving_chain(tmp_path, engines) as suite:
            await suite.fetch()
            assert (await failing(suite.transcribe())).code.name == "FAILED_PRECONDITION"
            assert engines["only"].calls == calls


async def test_what_is_no_refusal_of_the_engines_is_not_kept(tmp_path):
    for failure in (OUTAGE, RecordingFault("NOT_AUDIO", "no sound", transient=False)):
        engines = {"only": Named("only", failure=failure)}
        async with serving_chain(tmp_path, engines) as suite:
            await suite.fetch()
            await failing(suite.transcribe())
            await failing(suite.transcribe())
            assert engines["only"].calls == 2
