"""The local engine: what it hears, when it says that it cannot, and what a dying process costs."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import audio_sounds as sounds
import av
import numpy as np
import pytest
from trunkline_audio.engines import loading, local
from trunkline_audio.engines.base import EngineError, PreparedAudio, Segment, Utterance, Word
from trunkline_audio.engines.turns import joined
from trunkline_audio.preparation import PrepareLimits, Preparer
from trunkline_audio.workers.pool import WorkerError, WorkerPool

CALLS = Path(__file__).parents[3] / "tests" / "data" / "calls"
SECOND = 16_000


class FakePool:
    """Answers each utterance from a table by its start; counts how many are asked at once."""

    def __init__(self, words, size=2):
        self.words = words
        self.size = size
        self.ready = True
        self.asked = []
        self.at_once = self.most_at_once = 0

    async def run(self, request, *, seconds):
        self.asked.append(request)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        answer = self.words[request["start"]]
        if isinstance(answer, Exception):
            raise answer
        return {"words": answer}


@dataclass
class Prepared:
    utterances: tuple
    lanes: int = 2
    path: Path = Path("recording")
    seconds: float = 60.0
    channels: int = 2

    @contextlib.asynccontextmanager
    async def prepared(self):
        yield PreparedAudio(
            scratch=Path("scratch"),
            lanes=self.lanes,
            channels=self.channels,
            sample_rate=8000,
            seconds=self.seconds,
            speech_seconds=sum((item.end - item.start) / SECOND for item in self.utterances),
            utterances=self.utterances,
        )


def said(*words, confidence=0.9):
    return [[word, index * 0.5, index * 0.5 + 0.4, confidence] for index, word in enumerate(words)]


async def test_words_are_in_the_time_of_the_recording_and_turns_in_order():
    pool = FakePool({0: said("hello", "there"), 5 * SECOND: said("hi"), 2 * SECOND: said("again")})
    source = Prepared(
        (Utterance(1, 5 * SECOND, 6 * SECOND), Utterance(0, 2 * SECOND, 4 * SECOND), Utterance(0, 0, SECOND))
    )
    heard = await local.LocalEngine(pool).transcribe(source, "en-GB")
    assert [(item.lane, item.text, item.start) for item in heard.segments] == [
        (0, "hello there", 0.0),
        (0, "again", 2.0),
        (1, "hi", 5.0),
    ]
    assert heard.segments[0].words[1] == Word("there", 0.5, 0.9, 0.9)
    assert (heard.unreliable, heard.lanes, heard.speech_seconds) == ("", 2, 4.0)
    assert pool.asked[0]["start"] == 2 * SECOND, "the longest utterance goes first"
    assert pool.asked[0]["path"] == "scratch.0"


async def test_one_recording_takes_no_more_processes_than_there_are():
    pool = FakePool({n * SECOND: said("x") for n in range(20)}, size=3)
    source = Prepared(tuple(Utterance(0, n * SECOND, (n + 1) * SECOND) for n in range(20)))
    await local.LocalEngine(pool).transcribe(source, "en-US")
    assert pool.most_at_once == 3


@pytest.mark.parametrize("language", ["es", "es-MX", "fr-CA", "eng"])
async def test_a_language_it_does_not_know_gets_a_reason_and_no_nonsense(language):
    pool = FakePool({})
    source = Prepared((Utterance(0, 0, SECOND), Utterance(1, SECOND, 2 * SECOND)))
    heard = await local.LocalEngine(pool).transcribe(source, language)
    assert (heard.unreliable, heard.language) == ("language_not_supported", language)
    assert heard.segments == ()
    assert (heard.speakers, heard.speech_seconds) == (2, 2.0)
    assert pool.asked == []


async def test_words_it_is_not_sure_of_make_the_answer_unreliable():
    nonsense = said("use", "day", "tart", confidence=0.02) + said("you", "all", confidence=0.9)
    pool = FakePool({0: nonsense})
    heard = await local.LocalEngine(pool).transcribe(Prepared((Utterance(0, 0, SECOND),)), "")
    assert heard.unreliable == "low_confidence"
    assert heard.segments[0].text == "use day tart you all"


async def test_a_few_words_it_is_not_sure_of_do_not_spoil_an_answer():
    pool = FakePool({0: said("a", confidence=0.01) + said("pipe", "burst", "here", confidence=0.6)})
    heard = await local.LocalEngine(pool).transcribe(Prepared((Utterance(0, 0, SECOND),)), "")
    assert heard.unreliable == ""


@pytest.mark.parametrize("language", ["en-US", "es"])
async def test_silence_is_an_empty_transcript_and_no_error(language):
    heard = await local.LocalEngine(FakePool({})).transcribe(Prepared(()), language)
    assert (heard.segments, heard.unreliable, heard.speech_seconds) == ((), "", 0)


async def test_a_process_that_dies_fails_this_recording_with_a_clear_error():
    died = WorkerError("WORKER_DIED", "the speech process died (signal SIGKILL)", transient=True)
    pool = FakePool({0: died, SECOND: said("fine")})
    source = Prepared((Utterance(0, 0, SECOND), Utterance(0, SECOND, 2 * SECOND)))
    with pytest.raises(EngineError, match="SIGKILL") as failure:
        await local.LocalEngine(pool).transcribe(source, "en")
    assert failure.value.transient


def test_turns_join_over_short_pauses_only():
    def piece(lane, start, end, voice=0):
        return Segment(lane, voice, start, end, f"{start:g}", (Word(f"{start:g}", start, end),))

    texts = [
        item.text for item in joined([piece(0, 3, 4), piece(0, 0, 1), piece(0, 1.5, 2.5), piece(0, 9, 10)])
    ]
    assert texts == ["0 1.5 3", "9"]
    assert [item.text for item in joined([piece(0, 0, 1), piece(1, 1.2, 1.4), piece(0, 1.5, 2)])] == [
        "0",
        "1.2",
        "1.5",
    ]
    assert len(joined([piece(0, 0, 1, 1), piece(0, 1.1, 2, 2)])) == 2
    assert len(joined([piece(0, 0, 20), piece(0, 20, 40)])) == 2


def test_an_engine_is_found_by_name_or_by_module_and_factory():
    assert isinstance(loading.load_engine("local", 1), local.LocalEngine)
    assert isinstance(loading.load_engine("trunkline_audio.engines.local:create", 1), local.LocalEngine)


@pytest.mark.parametrize(
    "setting", ["", "whisper", "trunkline_audio.engines.local:nothing", "no_such_module:create"]
)
def test_an_engine_that_is_not_there_is_refused_with_what_is_allowed(setting):
    with pytest.raises(ValueError, match="allowed are local or module:factory"):
        loading.load_engine(setting)


@dataclass
class Sample:
    path: Path
    preparer: Preparer
    seconds: float = 0.0
    channels: int = 1

    def prepared(self):
        return self.preparer.prepare(self.path)


@contextlib.asynccontextmanager
async def real(tmp_path):
    preparer = Preparer(
        WorkerPool("trunkline_audio.preprocess.prepare:handler", size=1, name="decoder"),
        tmp_path / "scratch",
        PrepareLimits(),
    )
    engine = local.create(workers=1)
    preparer.start()
    engine.start()
    try:
        yield preparer, engine
    finally:
        await engine.close()
        await preparer.close()


async def test_speech_becomes_words_with_times_and_confidence(tmp_path):
    """The real model on two seconds of a sample call, in both channels in turn, 4 s apart."""
    with av.open(str(CALLS / "wide" / "wrong-number.ogg")) as container:
        resampler = av.AudioResampler("s16", "mono", SECOND)
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    speech = np.concatenate([frame.to_ndarray()[0] for frame in frames])[: int(3.1 * SECOND)] / 32768.0
    silence = np.zeros(len(speech), np.float64)
    path = tmp_path / "call.wav"
    path.write_bytes(
        sounds.wav(np.concatenate([speech, silence]), np.concatenate([silence, speech]), rate=SECOND)
    )
    async with real(tmp_path) as (preparer, engine):
        heard = await engine.transcribe(Sample(path, preparer), "en-US")
        assert [item.lane for item in heard.segments] == [0, 1]
        first, second = heard.segments
        for item in (first, second):
            assert item.text.startswith("river city")
            assert item.text.endswith("help you")
            assert all(0 <= word.confidence <= 1 for word in item.words)
        assert 0.4 <= first.start <= 1.2
        assert second.start - first.start == pytest.approx(3.1, abs=0.15)
        assert heard.unreliable == ""
        assert not list((tmp_path / "scratch").iterdir()), "decoded sound is gone when the answer is there"
