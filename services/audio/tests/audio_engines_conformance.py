"""What the service relies on of a speech engine: checks, each given a World with one that is entered.

A new engine enrols in ENROLLED, with the same checks as all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import audio_sounds as sounds
import numpy as np
import pytest
from audio_google import GoogleSpeech
from trunkline_audio.engines.google.batch import GoogleBatchEngine
from trunkline_audio.engines.google.engine import GoogleEngine
from trunkline_audio.engines.google.settings import GoogleSettings
from trunkline_audio.engines.recording import RecordingFile
from trunkline_audio.engines.whisper.engine import WhisperEngine
from trunkline_audio.engines.whisper.settings import WhisperSettings
from trunkline_audio.media.preparation import Preparer
from trunkline_audio.models.errors import ModelError
from trunkline_audio.models.lookup import default_folder, locate
from trunkline_runtime.engines.base import EngineError

from tests.standins.instant_audio import InstantEngine
from tests.standins.submitting_audio import MinuteEngine
from tools.samples.sounds import LINE_HZ, read

SAMPLE = Path(__file__).parents[3] / "tests" / "data" / "calls" / "wrong-number.wav"
SAMPLE_SECONDS = 13.7
CHECKS: dict[str, Any] = {}


def whisper():
    """Whisper with its model; without it a visible skip on a laptop, a failure in CI."""
    try:
        locate("base", default_folder())
    except ModelError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must run the tests with the speech model: {error}")
        pytest.skip(str(error))
    return WhisperEngine(WhisperSettings(lanes=1))


@functools.cache
def speech_server():
    return GoogleSpeech()


def google():
    """Google's engine with the stand-in for its service."""
    return GoogleEngine(GoogleSettings(project="p1", endpoint=speech_server().endpoint))


def google_batch():
    """The same with a bucket, so that it submits."""
    settings = GoogleSettings(project="p1", endpoint=speech_server().endpoint, bucket="gs://calls")
    return GoogleBatchEngine(settings, speech_server().bucket)


ENROLLED: dict[str, Any] = {
    "whisper": whisper,
    "google": google,
    "google with a bucket": google_batch,
    "submitting": MinuteEngine,
    "instant": InstantEngine,
}
"""Name -> what makes the engine: every name of the setting, and the stand-ins."""
_DECODES_NOTHING = "it looks at no sound"
EXCLUSIONS = {
    ("submitting", "what_is_no_sound_is_refused_for_good"): _DECODES_NOTHING,
    ("submitting", "silence_has_no_words_in_the_language_that_was_given"): _DECODES_NOTHING,
    ("submitting", "what_was_submitted_is_known_to_another_one_of_the_engine"): "it is its own provider",
    ("instant", "what_is_no_sound_is_refused_for_good"): _DECODES_NOTHING,
    ("instant", "speech_becomes_segments_in_time_and_lane"): _DECODES_NOTHING,
}
"""(engine, check) -> why that engine is let off that check."""


def check(function):
    """Enrol a check in the suite."""
    CHECKS[function.__name__] = function
    return function


@dataclass(frozen=True)
class World:
    """An engine that is entered, what it needs to decode, and a folder for sounds."""

    engine: Any
    preparer: Preparer
    folder: Path
    make: Any
    """What makes another one."""
    kept: dict[str, Any] = field(default_factory=dict)

    def recording(self, path=SAMPLE, language="", seconds=SAMPLE_SECONDS, channels=2, phrases=()):
        return RecordingFile(path, self.preparer, "acme", language, seconds, channels, phrases=phrases)

    async def hear(self, **facts):
        return await self.engine.transcribe(self.recording(**facts))

    async def sample(self, language=""):
        """What was heard in the sample, once."""
        if language not in self.kept:
            self.kept[language] = await self.hear(language=language)
        return self.kept[language]

    def sentence(self, begins=0):
        """Facts of a recording of 4 s of the sample, from a second on."""
        path = self.folder / f"sentence-{begins}.wav"
        path.write_bytes(sounds.wav(read(SAMPLE)[begins * LINE_HZ : (begins + 4) * LINE_HZ], rate=LINE_HZ))
        return {"path": path, "seconds": 4.0, "channels": 1}

    async def said(self):
        """What was heard in a sentence, without a hint, once."""
        if "sentence" not in self.kept:
            self.kept["sentence"] = await self.hear(**self.sentence())
        return self.kept["sentence"]


@check
async def it_has_a_name_and_version_that_fit_the_store(world):
    assert 0 < len(world.engine.name) <= 64
    assert "/" in world.engine.name
    assert world.engine.name.isprintable()
    assert world.make().name == world.engine.name


@check
async def it_has_what_its_capabilities_promise(world):
    able = world.engine.capabilities
    assert able.longest_seconds > 0
    assert able.submits == all(hasattr(world.engine, name) for name in ("submit", "poll", "cancel"))
    assert able.streams == hasattr(world.engine, "stream")


@check
async def speech_becomes_segments_in_time_and_lane(world):
    heard = await world.sample("en")
    assert heard.segments
    assert heard.lanes <= 2
    assert 0 < heard.speech_seconds <= 2 * SAMPLE_SECONDS
    assert all(before.start <= after.start for before, after in pairwise(heard.segments))
    for segment in heard.segments:
        assert 0 <= segment.lane < heard.lanes
        assert segment.voice in (0, 1, 2, 3)
        assert 0 <= segment.start <= segment.end <= SAMPLE_SECONDS + 0.1
        assert segment.text == segment.text.strip()
        assert segment.text
        assert bool(segment.words) == world.engine.capabilities.word_times
        for word in segment.words:
            assert segment.start <= word.start <= word.end <= segment.end
            assert word.confidence is None or 0 <= word.confidence <= 1


@check
async def an_answer_says_who_gave_it_and_what_it_took(world):
    heard = await world.said()
    assert heard.engine == world.engine.name
    assert 0 <= heard.usage.audio_seconds <= 2 * SAMPLE_SECONDS + 60
    assert min(heard.usage.input_tokens, heard.usage.output_tokens, heard.usage.cost_micros) >= 0


@check
async def only_one_that_says_so_renders_what_is_said_in_english(world):
    assert world.engine.capabilities.renders_english or (await world.said()).translated_from == ""


@check
async def without_a_hint_it_tells_the_language_if_it_can(world):
    heard = await world.said()
    assert bool(heard.language) == world.engine.capabilities.detects_language
    assert heard.overruled_language == ""


@check
async def silence_has_no_words_in_the_language_that_was_given(world):
    path = world.folder / "silence.wav"
    path.write_bytes(sounds.wav(np.zeros(2 * LINE_HZ), rate=LINE_HZ))
    heard = await world.hear(path=path, language="es-MX", seconds=2.0, channels=1)
    assert (heard.segments, heard.language, heard.unreliable) == ((), "es-MX", "")
    assert heard.usage.cost_micros == 0


@check
async def what_is_no_sound_is_refused_for_good(world):
    path = world.folder / "page.wav"
    path.write_bytes(b"<html>sign in</html>")
    with pytest.raises(EngineError) as told:
        await world.hear(path=path)
    assert not told.value.transient
    assert told.value.reason.isupper()
    assert "\n" not in str(told.value)


@check
async def recordings_side_by_side_are_heard_as_alone(world):
    other = world.sentence(4)
    alone = [await world.said(), await world.hear(**other)]
    assert await asyncio.gather(world.hear(**world.sentence()), world.hear(**other)) == alone


@check
async def an_asker_that_gives_up_leaves_it_as_it_was(world):
    before = await world.said()
    asker = asyncio.create_task(world.hear(**world.sentence()))
    await asyncio.sleep(0.05)
    asker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asker
    assert not world.engine.problem
    assert await world.hear(**world.sentence()) == before


@check
async def it_can_be_left_before_it_is_ready_and_ends_what_it_began(world):
    def children():
        return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()

    before, another = children(), world.make()
    async with another as entered:
        assert entered is another
    assert children() == before


@check
async def what_was_submitted_ends_as_it_would_have_been_transcribed(world):
    if not world.engine.capabilities.submits:
        return
    engine = world.engine
    name, short = await engine.submit(world.recording(seconds=150.0)), await world.sample()
    seconds, result = -1.0, None
    while result is None:
        told = await engine.poll(name)
        assert told.seconds >= seconds, "it goes forward"
        seconds, result = told.seconds, told.result
    assert (result.engine, result.language) == (short.engine, short.language)
    assert result.segments
    assert await engine.poll(name) == told, "a result stays, for a process that was restarted"
    again = await engine.submit(world.recording())
    while (told := await engine.poll(again)).result is None:
        pass
    assert told.result == short


@check
async def what_was_submitted_is_known_to_another_one_of_the_engine(world):
    if not world.engine.capabilities.submits:
        return
    name = await world.engine.submit(world.recording())
    async with world.make() as another:
        while (told := await another.poll(name)).result is None:
            pass
        assert told == await world.engine.poll(name)


@check
async def what_was_never_submitted_is_gone_for_good(world):
    if not world.engine.capabilities.submits:
        return
    with pytest.raises(EngineError) as told:
        await world.engine.poll("acme/speech/0123456789abcdef")
    assert (told.value.reason, told.value.transient) == ("SUBMISSION_GONE", False)
    await world.engine.cancel("acme/speech/0123456789abcdef")


@check
async def phrases_are_taken_however_many_and_long_they_are(world):
    phrases = ("River City Plumbing", "  ", "x" * 1_000, *(f"word {n}" for n in range(6_000)))
    heard = await world.hear(**world.sentence(), phrases=phrases)
    assert (heard.engine, heard.language) == ((await world.said()).engine, (await world.said()).language)


@check
async def voices_are_numbered_from_one_on_one_channel_and_not_told_apart_on_two(world):
    heard = await world.said()
    assert heard.lanes == 1
    voices = {segment.voice for segment in heard.segments} - {0}
    assert voices == set(range(1, len(voices) + 1))
    both = await world.sample("en")
    assert both.lanes < 2 or all(segment.voice == 0 for segment in both.segments)


@check
async def what_was_cancelled_is_gone_and_cancelling_again_is_harmless(world):
    if not world.engine.capabilities.submits:
        return
    name = await world.engine.submit(world.recording(seconds=150.0))
    for _ in range(2):
        await world.engine.cancel(name)
    with pytest.raises(EngineError) as told:
        await world.engine.poll(name)
    assert not told.value.transient


@check
async def a_stream_gives_final_segments_while_it_lasts(world):
    if not world.engine.capabilities.streams:
        return

    async def sound():
        for _ in range(150):
            yield bytes(2 * 16_000)

    heard = [segment async for segment in world.engine.stream(sound(), "en")]
    assert all(before.end <= after.start for before, after in pairwise(heard))
    assert all(0 <= one.start <= one.end <= 150 for one in heard)
