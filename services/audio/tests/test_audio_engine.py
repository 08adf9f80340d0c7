"""The engine beside its process: what it asks for, what it makes of the answers, and what it says while it cannot."""

import asyncio
import contextlib
import json
import re
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from trunkline_audio.config import load_config
from trunkline_audio.engines import loader
from trunkline_audio.engines.base import NO_CHECKPOINTS, Segment, Word
from trunkline_audio.engines.settings import SpeechEngineSettings
from trunkline_audio.engines.turns import joined
from trunkline_audio.engines.whisper.engine import CERTAINTY_FLOOR, WhisperEngine, certainty
from trunkline_audio.engines.whisper.listener import PHRASES_TOKENS, spoken_before
from trunkline_audio.engines.whisper.settings import WhisperSettings
from trunkline_audio.media.prepared import PreparedAudio, Utterance
from trunkline_audio.models.errors import ModelDamaged, ModelMissing
from trunkline_audio.models.names import KNOWN, renders_english
from trunkline_audio.workers.pool import WorkerError
from trunkline_runtime.config import ConfigError
from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.testing import KEY_FOLDER

SECOND = 16_000


class FakePool:
    """Answers each window from `heard`, by lane and second at which it begins; keeps what it was asked."""

    def __init__(self, heard, lanes=2):
        self.heard = heard
        self.lanes = lanes
        self.ready = True
        self.pids = [4711]
        self.asked = []
        self.at_once = self.most_at_once = 0
        self.closed = False
        self.gate = None

    def start(self):
        pass

    async def wait_ready(self, count=1):
        pass

    async def run(self, request, *, seconds):
        self.asked.append(request)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await (self.gate.acquire() if self.gate is not None else asyncio.sleep(0))
        finally:
            self.at_once -= 1
        lane = int(request["path"].rpartition(".")[2])
        answer = self.heard(lane, request["spans"][0][0] / SECOND, request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self):
        self.closed = True


def said(*words, start, utterance=0, confidence=0.9):
    """Words of half a second each, as the process gives them."""
    return [
        [f" {word}", utterance, start + index * 0.5, start + index * 0.5 + 0.4, confidence]
        for index, word in enumerate(words)
    ]


def written(words=(), language="en", share=0.95):
    """A window whose language the process was certain of."""
    return {"languages": [[language, share]], "language": language, "words": list(words), "cut": False}


def uncertain(request, words, *languages):
    """A window that is written only once the caller has chosen a language."""
    language = request.get("language", "")
    return {
        "languages": [list(item) for item in languages],
        "language": language,
        "words": words if language else [],
        "cut": False,
    }


@dataclass
class Recording:
    """A recording that was decoded already; counts how often its scratch files are in use."""

    utterances: tuple
    lanes: int = 2
    name: str = "scratch"
    tenant_id: str = "acme"
    path: Path = Path("recording")
    seconds: float = 60.0
    channels: int = 2
    language: str = ""
    priority: int = 0
    checkpoints: object = NO_CHECKPOINTS
    phrases: tuple = ()
    in_use: int = 0
    times_decoded: int = 0

    @contextlib.asynccontextmanager
    async def prepared(self):
        self.in_use += 1
        self.times_decoded += 1
        try:
            yield PreparedAudio(
                scratch=Path("folder") / self.name,
                lanes=self.lanes,
                channels=self.channels,
                sample_rate=8000,
                seconds=self.seconds,
                speech_seconds=sum((item.end - item.start) / SECOND for item in self.utterances),
                utterances=self.utterances,
            )
        finally:
            self.in_use -= 1


def speech(*spans):
    """Utterances from (lane, start, end, voice) in seconds."""
    return tuple(
        Utterance(lane, int(start * SECOND), int(end * SECOND), *voice) for lane, start, end, *voice in spans
    )


def windows(count, lane=0):
    """Utterances that are so long that each is a window of its own, 30 s apart."""
    return speech(*((lane, number * 30, number * 30 + 20) for number in range(count)))


@contextlib.asynccontextmanager
async def listening(pool, find=lambda model, folder: folder / model, again_seconds=0.001, **settings):
    engine = WhisperEngine(
        WhisperSettings(lanes=pool.lanes, **settings),
        models_folder=Path("models"),
        find=find,
        make_pool=lambda target, **options: pool,
        again_seconds=again_seconds,
    )
    async with engine:
        yield engine


async def hear(pool, recording, language=""):
    recording.language = language
    async with listening(pool) as engine:
        return await engine.transcribe(recording)


# What is heard


async def test_words_keep_their_time_text_and_confidence_and_turns_are_in_order():
    first = said("Hello,", "there.", start=0.0) + said("Again!", start=2.0, utterance=1)
    heard = {0: written(first), 1: written(said("Hi.", start=6.0))}
    recording = Recording(speech((1, 6, 7), (0, 2, 4), (0, 0, 0.95)))
    result = await hear(FakePool(lambda lane, start, request: heard[lane]), recording)
    assert [(item.lane, item.text, item.start, item.end) for item in result.segments] == [
        (0, "Hello, there.", 0.0, 0.9),
        (0, "Again!", 2.0, 2.4),
        (1, "Hi.", 6.0, 6.4),
    ]
    assert result.segments[0].words == (Word("Hello,", 0.0, 0.4, 0.9), Word("there.", 0.5, 0.9, 0.9))
    assert (result.lanes, result.speech_seconds, result.unreliable, result.speakers) == (2, 3.95, "", None)


async def test_voices_of_one_lane_stay_apart():
    words = said("How", "are", "you?", start=0.0) + said("Fine.", start=2.0, utterance=1)
    recording = Recording(speech((0, 0, 1.5, 1), (0, 1.9, 3, 2)), lanes=1, channels=1)
    result = await hear(FakePool(lambda *_: written(words)), recording)
    assert [(item.voice, item.text) for item in result.segments] == [(1, "How are you?"), (2, "Fine.")]


async def test_parts_of_one_word_are_written_as_they_are():
    words = [[" twenty", 0, 0.0, 0.4, 0.9], ["-five", 0, 0.4, 0.8, 0.9]]
    result = await hear(FakePool(lambda *_: written(words)), Recording(speech((0, 0, 1))))
    assert result.segments[0].text == "twenty-five"
    assert [word.text for word in result.segments[0].words] == ["twenty", "-five"]


async def test_each_window_is_asked_for_with_its_lane_its_speech_and_the_hint():
    pool = FakePool(lambda *_: written())
    await hear(pool, Recording(speech((0, 0, 1), (0, 5, 6), (1, 2, 3))), "es-MX")
    asked = sorted(pool.asked, key=lambda request: request["path"])
    assert asked == [
        {"path": "folder/scratch.0", "spans": [[0, SECOND], [5 * SECOND, 6 * SECOND]], "wanted": "es", "decide": False},
        {"path": "folder/scratch.1", "spans": [[2 * SECOND, 3 * SECOND]], "wanted": "es", "decide": False},
    ]  # fmt: skip


async def test_a_recording_of_one_window_lets_the_window_decide_its_language():
    pool = FakePool(lambda *_: written())
    await hear(pool, Recording(windows(1)), "fr")
    assert [(request["wanted"], request["decide"]) for request in pool.asked] == [("fr", True)]


async def test_the_longest_window_is_first_so_that_lanes_end_together():
    pool = FakePool(lambda *_: written(), lanes=1)
    await hear(pool, Recording(speech((0, 0, 12), (1, 20, 39), (0, 40, 58), (1, 60, 75))))
    assert [request["spans"][0][0] // SECOND for request in pool.asked] == [20, 40, 60, 0]


async def test_a_phrase_that_runs_in_circles_is_said_once():
    words = said("Where", "you", "are.", *["Where", "you", "are."] * 5, "Bye.", start=0.0)
    result = await hear(FakePool(lambda *_: written(words)), Recording(speech((0, 0, 20))))
    assert result.segments[0].text == "Where you are. Bye."


async def test_speech_without_words_makes_no_turn():
    heard = {0: written(), 1: written(said("Hello.", start=30.0))}
    recording = Recording(windows(1) + windows(2, lane=1)[1:])
    result = await hear(FakePool(lambda lane, *_: heard[lane]), recording)
    assert [item.lane for item in result.segments] == [1]


async def test_silence_is_an_empty_transcript_in_the_language_that_was_asked_for():
    pool = FakePool(lambda *_: written())
    result = await hear(pool, Recording(()), "es-MX")
    assert (result.segments, result.unreliable, result.speech_seconds) == ((), "", 0)
    assert (result.language, result.language_confidence, result.overruled_language) == ("es-MX", 0.0, "")
    assert pool.asked == []


async def test_words_it_is_not_sure_of_make_the_answer_unreliable():
    words = said("Use", "day", "tart", start=0.0, confidence=0.02) + said("you", "all.", start=2.0)
    result = await hear(FakePool(lambda *_: written(words)), Recording(speech((0, 0, 4))))
    assert result.unreliable == "low_confidence"
    assert result.segments[0].text == "Use day tart you all."


async def test_a_few_words_it_is_not_sure_of_do_not_spoil_an_answer():
    words = said("A", start=0.0, confidence=0.0)
    words += said("pipe", "has", "burst", "in", "the", "kitchen", "over", "here.", start=1.0)
    result = await hear(FakePool(lambda *_: written(words)), Recording(speech((0, 0, 6))))
    assert result.unreliable == ""


def test_certainty_is_that_of_the_words_that_have_one():
    def turn(*sure):
        return Segment(0, 0, 0.0, 1.0, "x", tuple(Word("x", 0.0, 1.0, one) for one in sure))

    assert certainty([turn(0.9, None), turn(0.4)]) == pytest.approx(0.6)
    assert certainty([turn(0.0, 1.0)]) == pytest.approx(CERTAINTY_FLOOR**0.5)
    assert certainty([turn(None)]) == certainty([]) == 1.0


def test_turns_join_over_short_pauses_only():
    def piece(lane, start, end, voice=0):
        return Segment(lane, voice, start, end, f"{start:g}", (Word(f"{start:g}", start, end),))

    def texts(*pieces):
        return [item.text for item in joined(pieces)]

    assert texts(piece(0, 3, 4), piece(0, 0, 1), piece(0, 1.5, 2.5), piece(0, 9, 10)) == ["0 1.5 3", "9"]
    assert texts(piece(0, 0, 1), piece(1, 1.2, 1.4), piece(0, 1.5, 2)) == ["0", "1.2", "1.5"]
    assert texts(piece(0, 0, 1, 1), piece(0, 1.1, 2, 2)) == ["0", "1.1"]
    assert texts(piece(0, 0, 20), piece(0, 20, 40)) == ["0", "20"]


async def test_speech_that_the_model_passed_over_is_listened_to_once_more_by_itself():
    def heard(lane, start, request):
        if len(request["spans"]) == 3:
            return written(said("First.", start=0.0) + said("Third.", start=6.0, utterance=2))
        return written(said("Second.", start=start))

    pool = FakePool(heard)
    result = await hear(pool, Recording(speech((0, 0, 2), (0, 3, 5), (0, 6, 8))))
    assert result.segments[0].text == "First."
    assert [word.text for item in result.segments for word in item.words] == ["First.", "Second.", "Third."]
    assert pool.asked[1]["spans"] == [[3 * SECOND, 5 * SECOND]]
    assert len(pool.asked) == 2


@pytest.mark.parametrize(
    "utterances",
    [speech((0, 0, 2), (0, 3, 4)), speech((1, 0, 2), (1, 3, 6))],
    ids=["short", "no words at all"],
)
async def test_a_breath_or_a_window_of_noise_is_not_listened_to_again(utterances):
    words = {0: said("First.", start=0.0), 1: []}
    pool = FakePool(lambda lane, *_: written(words[lane]))
    await hear(pool, Recording(utterances))
    assert len(pool.asked) == 1


async def test_a_window_that_holds_more_than_can_be_written_is_listened_to_in_halves():
    def heard(lane, start, request):
        spans = request["spans"]
        words = [said("Some.", start=begin / SECOND, utterance=n)[0] for n, (begin, _) in enumerate(spans)]
        return written(words) | {"cut": len(spans) == 4}

    pool = FakePool(heard)
    result = await hear(pool, Recording(speech((0, 0, 2), (0, 3, 5), (0, 6, 7), (0, 8, 9))))
    assert [len(asked["spans"]) for asked in pool.asked] == [4, 2, 2]
    assert [word.start for item in result.segments for word in item.words] == [0.0, 3.0, 6.0, 8.0]


# Languages


async def test_windows_of_uncertain_language_are_asked_again_in_the_language_of_the_call():
    def heard(lane, start, request):
        if start == 30:
            return uncertain(request, said("Sí.", start=start), ("pt", 0.5), ("es", 0.3))
        return written(said("Buenos", "días.", start=start), "es", 0.95)

    pool = FakePool(heard)
    result = await hear(pool, Recording(windows(3)))
    assert [item.text for item in result.segments] == ["Buenos días.", "Sí.", "Buenos días."]
    assert (result.language, result.overruled_language) == ("es", "")
    assert result.language_confidence == pytest.approx((0.95 + 0.3 + 0.95) / 3, abs=1e-3)
    again = [request for request in pool.asked if "language" in request]
    assert [(request["spans"], request["language"]) for request in again] == [
        ([[30 * SECOND, 50 * SECOND]], "es")
    ]
    assert len(pool.asked) == 4, "what was certain is asked once"


async def test_a_call_that_is_uncertain_all_through_is_written_in_the_language_of_its_hint():
    def heard(lane, start, request):
        return uncertain(request, said("Olá.", start=start), ("es", 0.5), ("pt", 0.4))

    result = await hear(FakePool(heard), Recording(windows(2)), "pt-BR")
    assert [item.text for item in result.segments] == ["Olá.", "Olá."]
    assert (result.language, result.language_confidence, result.overruled_language) == ("pt-BR", 0.4, "")


async def test_a_hint_that_the_recording_speaks_against_is_overruled_and_shown():
    result = await hear(
        FakePool(lambda *_: written(said("Hola.", start=0.0), "es", 0.93)), Recording(windows(1)), "en-US"
    )
    assert (result.language, result.language_confidence, result.overruled_language) == ("es", 0.93, "en-US")


async def test_a_hint_that_is_right_keeps_its_region():
    result = await hear(
        FakePool(lambda *_: written(said("Hello.", start=0.0))), Recording(windows(1)), "en-US"
    )
    assert (result.language, result.language_confidence, result.overruled_language) == ("en-US", 0.95, "")


async def test_a_recording_without_a_hint_is_in_the_language_that_is_heard():
    result = await hear(FakePool(lambda *_: written(said("Hallo.", start=0.0), "de")), Recording(windows(1)))
    assert (result.language, result.overruled_language) == ("de", "")


@pytest.mark.parametrize(("hint", "spoken"), [("", "es"), ("es-MX", "es-MX")])
async def test_what_is_written_in_english_for_another_language_says_which(hint, spoken):
    """Whichever language is in most of the windows: the text is English."""

    def heard(lane, start, request):
        if start < 30:
            return {**written(said("Hello.", start=start), "es", 0.93), "english": True}
        return {**written(said("Bye.", start=start), "en"), "english": False}

    pool, recording = FakePool(heard), Recording(windows(3))
    recording.language = hint
    async with listening(pool, english=True, model="large-v3") as engine:
        assert engine.capabilities.renders_english
        assert engine.name.endswith("large-v3 english"), "its words are no results of the plain one"
        result = await engine.transcribe(recording)
    assert (result.language, result.translated_from) == ("en", spoken)


def test_only_large_models_render_english():
    assert {name for name in KNOWN if renders_english(name)} == {
        "medium", "large", "large-v1", "large-v2", "large-v3",
    }  # fmt: skip
    assert renders_english("Systran/faster-whisper-large-v3")
    assert not renders_english("/models/mine")
    env = {"TRUNKLINE_AUDIO_WHISPER_ENGLISH": "true", "TRUNKLINE_AUDIO_KEYS": str(KEY_FOLDER)}
    with pytest.raises(
        ConfigError, match="TRUNKLINE_AUDIO_WHISPER_ENGLISH needs a larger model than 'base': medium"
    ):
        load_config(env)
    assert load_config({**env, "TRUNKLINE_AUDIO_WHISPER_MODEL": "large-v3"}).whisper.english
    assert not load_config({"TRUNKLINE_AUDIO_KEYS": str(KEY_FOLDER)}).whisper.english, (
        "off unless it is asked for"
    )


async def test_a_model_of_english_alone_says_so_of_a_recording_in_another_language():
    words = said("Where", "is", "no", "Dias?", start=0.0)
    heard = {"languages": [], "language": "en", "words": words, "cut": False}
    result = await hear(FakePool(lambda *_: heard), Recording(windows(1) + windows(1, lane=1)), "es-MX")
    assert (result.language, result.unreliable) == ("es-MX", "language_not_supported")
    assert (result.segments, result.speakers, result.overruled_language) == ((), 2, "")


@pytest.mark.parametrize("hint", ["", "en-GB"])
async def test_a_model_of_english_alone_writes_english_and_does_not_say_that_it_is_sure(hint):
    heard = {"languages": [], "language": "en", "words": said("Hello.", start=0.0), "cut": False}
    result = await hear(FakePool(lambda *_: heard), Recording(windows(1)), hint)
    assert (result.language, result.language_confidence, result.unreliable) == (hint or "en", 0.0, "")
    assert result.segments[0].text == "Hello."


# Failures

DIED = WorkerError("WORKER_DIED", "the speech process died (signal SIGKILL)", transient=True)
BROKEN = WorkerError("BROKEN", "the window cannot be read", transient=False)


@pytest.mark.parametrize(
    ("failure", "transient"),
    [(DIED, True), (BROKEN, False)],
    ids=lambda value: getattr(value, "reason", None),
)
@pytest.mark.parametrize("which", [{30}, {0, 30, 60, 90}], ids=["one", "all"])
async def test_a_window_that_fails_fails_its_recording_with_the_reason(failure, transient, which):
    failing = set(which)

    def heard(lane, start, request):
        return failure if start in failing else written(said("Fine.", start=start))

    pool, recording = FakePool(heard, lanes=4), Recording(windows(4))
    async with listening(pool) as engine:
        with pytest.raises(EngineError, match=re.escape(str(failure))) as told:
            await engine.transcribe(recording)
        assert (told.value.reason, told.value.transient) == (failure.reason, transient)
        assert (pool.at_once, recording.in_use) == (0, 0)
        failing.clear()
        assert len((await engine.transcribe(recording)).segments) == 4


async def test_a_process_that_another_recording_ended_fails_nobody_else():
    deaths = [DIED]
    pool = FakePool(
        lambda lane, start, request: deaths.pop() if deaths else written(said("Fine.", start=start))
    )
    assert (await hear(pool, Recording(windows(1)))).segments[0].text == "Fine."
    assert len(pool.asked) == 2


async def test_noise_without_a_word_has_no_language_and_overrules_nothing():
    result = await hear(
        FakePool(lambda *_: written(language="nn", share=0.9)), Recording(windows(1)), "en-US"
    )
    assert (result.language, result.overruled_language, result.segments) == ("en-US", "", ())


async def test_a_window_that_fails_when_asked_again_fails_its_recording():
    def heard(lane, start, request):
        return DIED if "language" in request else uncertain(request, [], ("es", 0.5))

    with pytest.raises(EngineError) as told:
        await hear(FakePool(heard), Recording(windows(2)))
    assert told.value.reason == "WORKER_DIED"


async def test_an_asker_that_gives_up_leaves_no_window_behind():
    pool, recording = FakePool(lambda *_: written()), Recording(windows(10))
    pool.gate = asyncio.Semaphore(0)
    async with listening(pool) as engine:
        asker = asyncio.create_task(engine.transcribe(recording))
        while pool.at_once < pool.lanes:
            await asyncio.sleep(0)
        asker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asker
        assert (pool.at_once, recording.in_use) == (0, 0)
        pool.gate = None
        await engine.transcribe(recording)
    assert len(pool.asked) == pool.lanes + 10


# Long recordings


class Shelf:
    """Checkpoints that are kept in the test."""

    lasting = True

    def __init__(self):
        self.values = {}
        self.segments = []
        self.reached = []

    async def found(self):
        return dict(self.values)

    def keep(self, key, value, segments=(), lanes=1):
        assert key not in self.values
        self.values[key] = json.loads(json.dumps(value))
        self.segments += segments

    def reach(self, seconds):
        self.reached.append(seconds)


def numbered(lane, second, request):
    return written([*said(f"at{second:g}", start=second)])


async def test_an_attempt_after_one_that_ended_goes_on_where_that_stopped():
    shelf, utterances = Shelf(), windows(10)
    pool = FakePool(numbered)
    whole = await hear(pool, Recording(utterances))
    pool = FakePool(
        lambda *asked: numbered(*asked) if len(pool.asked) < 7 else WorkerError("X", "", transient=True)
    )
    with pytest.raises(EngineError):
        await hear(pool, Recording(utterances, checkpoints=shelf))
    assert len(shelf.values) == 6
    pool = FakePool(numbered)
    assert await hear(pool, Recording(utterances, checkpoints=shelf)) == whole
    assert len(pool.asked) == 4
    pool = FakePool(numbered)
    assert await hear(pool, Recording(utterances, checkpoints=shelf)) == whole
    assert not pool.asked


async def test_what_a_model_of_other_settings_wrote_is_not_taken_up():
    shelf = Shelf()
    await hear(FakePool(numbered), Recording(windows(3), checkpoints=shelf))
    for changed in ({"beam": 1}, {"compute_type": "float32"}, {"model": "small"}):
        pool, before = FakePool(numbered), len(shelf.values)
        async with listening(pool, **changed) as engine:
            await engine.transcribe(Recording(windows(3), checkpoints=shelf))
        assert (len(pool.asked), len(shelf.values) - before) == (3, 3), changed


async def test_it_tells_how_far_it_is_in_seconds_of_the_recording_and_what_is_final():
    shelf = Shelf()
    pool = FakePool(
        lambda lane, second, request: (
            uncertain(request, [*said("late", start=second)], ("en", 0.5))
            if second == 60
            else numbered(lane, second, request)
        )
    )
    await hear(pool, Recording(windows(4), seconds=120.0, checkpoints=shelf))
    assert shelf.reached == [pytest.approx(seconds) for seconds in (30, 60, 90, 120)]
    assert sorted(segment.text for segment in shelf.segments) == ["at0", "at30", "at90", "late"]


async def test_many_windows_are_written_in_the_order_of_time():
    pool = FakePool(numbered, lanes=1)
    utterances = [Utterance(n % 2, n * 30 * SECOND, (n * 30 + 15 + n % 5) * SECOND) for n in range(20)]
    await hear(pool, Recording(tuple(utterances)))
    assert [request["spans"][0][0] // SECOND for request in pool.asked] == [n * 30 for n in range(20)]


# Sharing


@pytest.mark.parametrize("lanes", [1, 3])
async def test_no_more_windows_are_written_at_once_than_there_are_lanes(lanes):
    pool = FakePool(lambda *_: written(), lanes=lanes)
    async with listening(pool) as engine:
        recordings = [Recording(windows(7), name=f"scratch-{n}") for n in range(4)]
        await asyncio.gather(*(engine.transcribe(recording) for recording in recordings))
    assert pool.most_at_once == lanes
    assert len(pool.asked) == 28


async def test_a_quiet_tenant_gets_the_next_lane_beside_one_with_fifty_long_recordings():
    pool = FakePool(lambda *_: written())
    pool.gate = asyncio.Semaphore(0)
    async with listening(pool) as engine:
        loud = [
            asyncio.create_task(
                engine.transcribe(Recording(windows(100), tenant_id="loud", name=f"loud-{n}"))
            )
            for n in range(50)
        ]
        while pool.at_once < pool.lanes:
            await asyncio.sleep(0)
        quiet = asyncio.create_task(engine.transcribe(Recording(windows(2), tenant_id="quiet", name="quiet")))
        for _ in range(10):
            await asyncio.sleep(0)
        for turn in range(5):
            pool.gate.release()
            while len(pool.asked) < 3 + turn:
                await asyncio.sleep(0)
        await asyncio.wait_for(quiet, 5)
        assert "quiet" in pool.asked[2]["path"]
        for task in loud:
            task.cancel()
        await asyncio.gather(*loud, return_exceptions=True)


# The model


class Models:
    """Where a model may be missing for a while; counts how often it was looked for."""

    def __init__(self, problem):
        self.problem = problem
        self.looks = 0

    def find(self, model, folder):
        self.looks += 1
        if self.problem is not None:
            raise self.problem
        return folder / model


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_without_its_model_it_says_which_command_fetches_it(tmp_path):
    pool = FakePool(lambda *_: written())
    engine = WhisperEngine(
        WhisperSettings(), models_folder=tmp_path / "models", make_pool=lambda target, **options: pool
    )
    recording = Recording(windows(1))
    async with engine:
        with pytest.raises(EngineError, match=r"`python -m trunkline_audio\.models fetch base`") as told:
            await engine.transcribe(recording)
        assert (told.value.reason, told.value.transient) == ("ENGINE_NOT_READY", True)
        assert (engine.problem, engine.pids, recording.in_use) == (str(told.value), [], 0)
    assert "\n" not in str(told.value)


async def test_nothing_is_decoded_for_a_model_that_is_known_to_be_missing():
    models = Models(ModelMissing("it is missing"))
    recording = Recording(windows(1))
    async with listening(FakePool(lambda *_: written()), find=models.find) as engine:
        await until(lambda: models.looks > 1)
        with pytest.raises(EngineError, match="it is missing"):
            await engine.transcribe(recording)
    assert recording.times_decoded == 0


async def test_a_process_that_does_not_start_is_told_at_once():
    pool = FakePool(lambda *_: written())
    pool.ready = False
    async with listening(pool) as engine:
        with pytest.raises(EngineError, match="does not start") as told:
            await engine.transcribe(Recording(windows(1)))
        assert (told.value.reason, told.value.transient) == ("ENGINE_NOT_READY", True)
        assert pool.asked == []
        pool.ready = True
        await engine.transcribe(Recording(windows(1)))


async def test_a_model_that_comes_later_heals_it_without_a_restart():
    models = Models(ModelMissing("model base is not there"))
    pool = FakePool(lambda *_: written(said("Hello.", start=0.0)))
    async with listening(pool, find=models.find) as engine:
        with pytest.raises(EngineError):
            await engine.transcribe(Recording(windows(1)))
        models.problem = None
        await asyncio.wait_for(engine.wait_ready(), 10)
        assert not engine.problem
        assert engine.pids == pool.pids
        result = await engine.transcribe(Recording(windows(1)))
        assert result.segments[0].text == "Hello."


async def test_a_model_that_is_not_usable_is_said_once_for_each_reason():
    models = Models(ModelMissing("it is missing"))
    with structlog.testing.capture_logs() as lines:
        async with listening(FakePool(lambda *_: written()), find=models.find) as engine:
            await until(lambda: models.looks >= 4)
            models.problem = ModelDamaged("it is damaged")
            looks = models.looks
            await until(lambda: models.looks >= looks + 4)
            with pytest.raises(EngineError, match="it is damaged"):
                await engine.transcribe(Recording(windows(1)))
    said = [line for line in lines if line["event"] == "speech_model_not_usable"]
    assert [line["problem"] for line in said] == ["it is missing", "it is damaged"]
    assert {line["setting"] for line in said} == {"TRUNKLINE_AUDIO_WHISPER_MODEL"}


async def test_calls_wait_for_the_first_look_at_the_model():
    looking, found = threading.Event(), threading.Event()

    def find(model, folder):
        looking.set()
        found.wait(10)
        return folder / model

    pool = FakePool(lambda *_: written(said("Hello.", start=0.0)))
    async with listening(pool, find=find) as engine:
        asker = asyncio.create_task(engine.transcribe(Recording(windows(1))))
        await until(looking.is_set)
        assert not asker.done()
        assert engine.problem
        found.set()
        assert (await asyncio.wait_for(asker, 10)).segments[0].text == "Hello."


async def test_it_is_ready_as_long_as_its_process_is():
    pool = FakePool(lambda *_: written())
    async with listening(pool) as engine:
        await asyncio.wait_for(engine.wait_ready(), 10)
        assert not engine.problem
        pool.ready = False
        assert engine.problem
    assert pool.closed


async def test_it_ends_while_its_model_is_still_looked_for():
    models = Models(ModelMissing("it is missing"))
    async with asyncio.timeout(10):
        async with listening(FakePool(lambda *_: written()), find=models.find, again_seconds=3600):
            await until(lambda: models.looks)


async def test_the_process_is_told_which_model_to_load_and_how():
    asked = {}

    def make_pool(target, **options):
        asked.update(options, target=target)
        return FakePool(lambda *_: written())

    settings = WhisperSettings(model="small", device="cuda", compute_type="float16", lanes=5, beam=3)
    kept, find = Path("kept"), lambda model, folder: folder / model
    async with WhisperEngine(settings, models_folder=kept, find=find, make_pool=make_pool) as engine:
        await asyncio.wait_for(engine.wait_ready(), 10)
    assert (asked["size"], asked["lanes"], asked["name"]) == (1, 5, "speech")
    assert asked["target"] == "trunkline_audio.engines.whisper.listener:handler"
    assert asked["settings"] == {
        "path": str(Path("kept") / "small"), "device": "cuda", "compute_type": "float16", "lanes": 5, "beam": 3,
            "english": False,
    }  # fmt: skip


# Phrases


async def test_every_window_is_listened_to_with_the_phrases_and_none_are_sent_without():
    for phrases, sent in ((("Cedar Lane", "Okafor"), ["Cedar Lane", "Okafor"]), ((), None)):
        pool = FakePool(lambda lane, begin, request: written(said("Yes.", start=begin)))
        await hear(pool, Recording(windows(3), phrases=phrases))
        assert [request.get("phrases") for request in pool.asked] == [sent] * 3


@given(st.lists(st.text(min_size=1, max_size=100), max_size=500))
def test_as_many_whole_phrases_as_the_prompt_holds_are_read_the_first_ones_first(phrases):
    text = spoken_before(phrases, str.encode)
    if text is None:
        assert not phrases or len(phrases[0].encode()) > PHRASES_TOKENS
        return
    assert len(text.encode()) <= PHRASES_TOKENS
    taken = next(n for n in range(1, len(phrases) + 1) if ", ".join(phrases[:n]) == text)
    assert taken == len(phrases) or len(f"{text}, {phrases[taken]}".encode()) > PHRASES_TOKENS


# Settings


@pytest.mark.parametrize(
    ("model", "name"),
    [("base", "base"), ("Systran/faster-whisper-tiny", "faster-whisper-tiny"), ("/kept/mine/", "mine")],
)
def test_an_engine_is_named_after_its_library_and_its_model(model, name):
    engine = loader.load_engines(SpeechEngineSettings(whisper=WhisperSettings(model=model)), Path())[
        "whisper"
    ]
    library, _, of = engine.name.partition(" ")
    assert of == name
    assert library.startswith("whisper/1.")


def test_a_check_asks_the_device_which_compute_types_it_has(monkeypatch, tmp_path):
    def usable(device):
        if device == "cuda":
            raise RuntimeError("no driver")
        return {"int8", "float32"}

    monkeypatch.setattr("ctranslate2.get_supported_compute_types", usable)
    monkeypatch.setattr("trunkline_audio.engines.whisper.settings.verify", lambda _model, folder: folder)
    with socket.create_server(("127.0.0.1", 0)) as there:
        env = {
            "TRUNKLINE_AUDIO_KEYS": str(KEY_FOLDER),
            "TRUNKLINE_AUDIO_TENANT_ADDRESS": f"127.0.0.1:{there.getsockname()[1]}",
            "TRUNKLINE_AUDIO_STORE_URL": f"sqlite:///{tmp_path}/audio.db",
        }
        for kind in ("int8", "auto", "default"):
            load_config({**env, "TRUNKLINE_AUDIO_WHISPER_COMPUTE_TYPE": kind}, reach=True)
        with pytest.raises(
            ConfigError, match=r"^TRUNKLINE_AUDIO_WHISPER_COMPUTE_TYPE must be one of float32, int8 on"
        ):
            load_config({**env, "TRUNKLINE_AUDIO_WHISPER_COMPUTE_TYPE": "float16"}, reach=True)
        with pytest.raises(ConfigError, match=r"^TRUNKLINE_AUDIO_WHISPER_DEVICE cannot be used: no driver"):
            load_config({**env, "TRUNKLINE_AUDIO_WHISPER_DEVICE": "cuda"}, reach=True)


def test_the_settings_name_whisper():
    (engine,) = loader.load_engines(SpeechEngineSettings(), Path()).values()
    assert isinstance(engine, WhisperEngine)


@pytest.mark.parametrize("setting", ["", "local", "pocketsphinx", "json:nothing", "no_such_module:create"])
def test_an_engine_that_is_not_there_is_refused_with_what_is_allowed(setting):
    with pytest.raises(
        ConfigError, match=r"^TRUNKLINE_AUDIO_ENGINE: .*allowed are google, whisper or module:factory"
    ):
        loader.load_engines(SpeechEngineSettings(engines=(setting,)), Path())
