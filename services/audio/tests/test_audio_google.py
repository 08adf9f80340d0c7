"""The engine of Google Speech-to-Text against a local server that speaks its protocol."""

import asyncio
import json
from datetime import timedelta

import audio_google
import audio_sounds as sounds
import grpc
import numpy as np
import pytest
from audio_google import GoogleSpeech, Refused, answered, words
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud import speech_v2
from trunkline_audio.config import load_config
from trunkline_audio.engines.google import answers, requests
from trunkline_audio.engines.google.engine import LONGEST_SECONDS, GoogleEngine
from trunkline_audio.engines.google.settings import GoogleSettings
from trunkline_audio.engines.windows import Window
from trunkline_audio.media.prepared import Utterance
from trunkline_runtime.config import ConfigError
from trunkline_runtime.engines.base import NOT_READY, EngineError
from trunkline_runtime.rpc.call import set_rpc
from trunkline_runtime.testing import KEY_FOLDER

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 16_000
QUIET = np.zeros(2 * RATE, np.float32)


def engine(google, **settings):
    return GoogleEngine(GoogleSettings(project="p1", endpoint=google.endpoint, **settings))


TWO_LANES = (
    np.concatenate([sounds.voice(3), QUIET, QUIET]),
    np.concatenate([QUIET, QUIET, sounds.voice(3, pitch=200)]),
)


async def failing(call):
    with pytest.raises(EngineError) as failure:
        await call
    return failure.value


async def test_each_lanes_speech_is_asked_for_with_what_was_set(google, recording):
    async with engine(google, location="eu", recognizer="calls", model="chirp_2") as made:
        heard = await made.transcribe(recording(*TWO_LANES))
    assert [segment.lane for segment in heard.segments] == [0, 1]
    first, second = heard.segments
    assert first.text == second.text == "so this is what was said"
    assert 0 <= first.start < first.end <= 3.5 < second.start < second.end <= 7.1
    assert first.words[0].confidence == pytest.approx(0.9)
    assert len(google.requests) == 2
    asked = google.requests[0]
    assert asked.recognizer == "projects/p1/locations/eu/recognizers/calls"
    assert (asked.config.model, list(asked.config.language_codes)) == ("chirp_2", ["en-US"])
    assert asked.config.features.enable_automatic_punctuation
    assert heard.engine == "google/v2 chirp_2"
    assert heard.language == "en-US"


async def test_what_is_billed_is_told_and_silence_is_not_paid_for(google, recording):
    google.answer = lambda _, seconds: answered(words(seconds), billed=30)
    async with engine(google, price_micros_per_minute=16_000) as made:
        heard = await made.transcribe(recording(*TWO_LANES))
        assert (heard.usage.audio_seconds, heard.usage.cost_micros) == (60, 16_000)
        silent = await made.transcribe(recording(QUIET))
    assert (silent.segments, silent.usage.cost_micros) == ((), 0)
    assert len(google.requests) == 2


async def test_a_long_recording_is_asked_for_in_windows_of_less_than_a_minute(google, recording):
    speech = np.tile(np.concatenate([sounds.voice(8), QUIET]), 15)
    async with engine(google, requests_at_once=3) as made:
        heard = await made.transcribe(recording(speech))
    lengths = [audio_google.seconds_of(request.content) for request in google.requests]
    assert len(lengths) >= 3
    assert max(lengths) <= LONGEST_SECONDS
    assert max(len(request.content) for request in google.requests) < 2 << 20
    assert heard.segments[0].start < 10
    assert heard.segments[-1].end > 140
    assert all(
        before.start <= after.start for before, after in zip(heard.segments, heard.segments[1:], strict=False)
    )


async def test_without_a_language_it_is_detected(google, recording):
    google.answer = lambda _, seconds: answered(words(seconds, "hola buenos dias", "es-us"))
    async with engine(google) as made:
        heard = await made.transcribe(recording(sounds.voice(3), language=""))
    assert list(google.requests[0].config.language_codes) == ["auto"]
    assert heard.language == "es-us"


async def test_nothing_heard_is_no_segment(google, recording):
    google.answer = lambda *_: answered()
    async with engine(google) as made:
        heard = await made.transcribe(recording(sounds.voice(3)))
    assert (heard.segments, heard.unreliable) == ((), "")


async def test_doubtful_words_are_said_to_be_unreliable(google, recording):
    def mumbled(_, seconds):
        answer = answered(words(seconds))
        answer.results[0].alternatives[0].confidence = 0.2
        return answer

    google.answer = mumbled
    async with engine(google) as made:
        assert (await made.transcribe(recording(sounds.voice(3)))).unreliable == "low_confidence"


async def test_what_cannot_be_taken_now_is_asked_again_after_the_servers_own_pause(google, recording):
    google.script = [
        Refused(grpc.StatusCode.UNAVAILABLE, "try again"),
        Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", retry_seconds=0.2),
    ]
    async with engine(google) as made:
        assert (await made.transcribe(recording(sounds.voice(3)))).segments
    assert len(google.requests) == 3


async def test_a_quota_that_stays_used_up_is_told_with_when_to_come_back(google, recording):
    google.script = [Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota exceeded", retry_seconds=7)] * 9
    async with engine(google, patience_seconds=1.0) as made:
        error = await failing(made.transcribe(recording(sounds.voice(3))))
    assert (error.reason, error.transient, error.retry_after) == ("ENGINE_QUOTA", True, 7)
    assert len(google.requests) == 1, "no pause of 7 s fits into 1 s"


async def test_nothing_is_tried_again_for_longer_than_the_caller_waits(google, recording):
    class Call:
        def remaining_seconds(self):
            return 1.5

    google.script = [Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota exceeded", retry_seconds=3)] * 9
    set_rpc(Call())
    try:
        async with engine(google, patience_seconds=600) as made:
            error = await failing(made.transcribe(recording(sounds.voice(3))))
    finally:
        set_rpc(None)
    assert (error.reason, error.retry_after) == ("ENGINE_QUOTA", 3)
    assert len(google.requests) == 1


async def test_a_refusal_is_final_and_asked_once(google, recording):
    google.script = [Refused(grpc.StatusCode.INVALID_ARGUMENT, "the model does not know this language")]
    async with engine(google) as made:
        error = await failing(made.transcribe(recording(sounds.voice(3))))
        assert (error.reason, error.transient) == ("ENGINE_INVALID_ARGUMENT", False)
        assert "does not know this language" in str(error)
        assert made.problem == ""
    assert len(google.requests) == 1


async def test_a_set_up_that_is_refused_is_the_engines_problem_until_a_request_succeeds(google, recording):
    google.script = [Refused(grpc.StatusCode.PERMISSION_DENIED, "no access\nto the project")]
    async with engine(google) as made:
        error = await failing(made.transcribe(recording(sounds.voice(3))))
        assert (error.reason, error.transient) == (NOT_READY, True)
        assert "no access" in made.problem
        assert "\n" not in made.problem
        assert (await made.transcribe(recording(sounds.voice(3)))).segments
        assert made.problem == ""


def service_account(path):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    told = {
        "type": "service_account",
        "client_email": "speech@p1.example",
        "token_uri": "http://127.0.0.1:9/token",
        "private_key": key.private_bytes(*form).decode(),
    }
    path.write_text(json.dumps(told))


async def test_credentials_that_are_missing_are_looked_for_again(recording, tmp_path, monkeypatch):
    path = tmp_path / "account.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    settings = GoogleSettings(project="p1", endpoint="127.0.0.1:9", patience_seconds=0.2)
    async with GoogleEngine(settings) as made:
        error = await failing(made.transcribe(recording(sounds.voice(3))))
        assert (error.reason, error.transient) == (NOT_READY, True)
        assert "the client cannot be made" in made.problem
        service_account(path)
        error = await failing(made.transcribe(recording(sounds.voice(3))))
        assert error.transient
        assert "the client cannot be made" not in str(error)


async def test_a_server_that_is_not_there_is_transient(recording):
    gone = GoogleSpeech()
    gone.stop()
    async with engine(gone, patience_seconds=0.5) as made:
        error = await failing(made.transcribe(recording(sounds.voice(3))))
    assert (error.reason, error.transient) == ("ENGINE_UNAVAILABLE", True)


async def test_a_transcription_that_is_given_up_asks_for_no_more(google, recording):
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(_, seconds):
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20)
        return answered(words(seconds))

    google.answer = slow
    speech = np.tile(np.concatenate([sounds.voice(8), QUIET]), 15)
    async with engine(google, requests_at_once=1) as made:
        asking = asyncio.create_task(made.transcribe(recording(speech)))
        while not google.requests:
            await asyncio.sleep(0.02)
        asking.cancel()
        await asyncio.wait([asking])
        release.set()
        google.answer = lambda _, seconds: answered(words(seconds))
        assert (await made.transcribe(recording(sounds.voice(3)))).segments, "its lane is free again"
    assert len(google.requests) == 2


WINDOW = Window(1, (Utterance(1, 0, 2 * RATE, 1), Utterance(1, 10 * RATE, 13 * RATE, 2)))
"""Two utterances, 2 s at 0 s and 3 s at 10 s: within the window at 0 s and at 2.2 s."""


def result(transcript, told=(), end=None):
    best = speech_v2.SpeechRecognitionAlternative(transcript=transcript, words=told)
    offset = None if end is None else timedelta(seconds=end)
    return speech_v2.SpeechRecognitionResult(alternatives=[best], result_end_offset=offset)


def word(text, start=None, end=None):
    offsets = {"start_offset": start, "end_offset": end}
    given = {name: timedelta(seconds=value) for name, value in offsets.items() if value is not None}
    return speech_v2.WordInfo(word=text, **given)


def told(*results):
    return [
        (segment.voice, segment.start, segment.end, segment.text)
        for segment in answers.segments([answers.heard(WINDOW, answered(*results))])
    ]


async def test_words_return_to_their_utterances():
    spoken = [word("Hello.", 0.1, 1.9), word("Yes,", 2.3, 3.0), word("please.", 3.0, 4.0)]
    assert told(result("Hello. Yes, please.", spoken)) == [
        (1, 0.1, 1.9, "Hello."),
        (2, pytest.approx(10.1), pytest.approx(11.8), "Yes, please."),
    ]


async def test_words_without_times_are_one_segment_of_the_transcript():
    assert told(result("Hello. Yes.", [word("Hello."), word("Yes.")])) == [(1, 0, 13, "Hello. Yes.")]
    assert told(result("Hello. Yes.")) == [(1, 0, 13, "Hello. Yes.")]
    assert told(result("Hello.", end=1.5)) == [(1, 0, 1.5, "Hello.")]
    assert told(result("Hello. Yes.", end=3.2)) == [(1, 0, 11, "Hello. Yes.")]


async def test_the_transcript_goes_before_words_that_are_not_its_own():
    assert told(result("The price is $20.", [word("twenty", 0.1, 0.9), word("dollars", 0.9, 1.5)])) == [
        (1, 0.1, 1.5, "The price is $20.")
    ]


async def test_empty_results_and_alternatives_are_passed_over():
    assert told(speech_v2.SpeechRecognitionResult(), result("  "), result("Hello.", end=1.0)) == [
        (1, 0, 1, "Hello.")
    ]


async def test_flac_holds_the_samples_as_they_are():
    import io

    import av

    samples = (sounds.voice(2) * 32767).astype(np.int16)
    with av.open(io.BytesIO(requests.flac(samples))) as container:
        back = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
    assert np.array_equal(back, samples)


async def test_a_location_that_is_empty_is_refused_by_name():
    given = {"TRUNKLINE_AUDIO_KEYS": str(KEY_FOLDER), "TRUNKLINE_AUDIO_GOOGLE_LOCATION": ""}
    with pytest.raises(ConfigError, match="TRUNKLINE_AUDIO_GOOGLE_LOCATION must be a location"):
        load_config(given)


async def test_without_a_project_the_setting_is_named():
    with pytest.raises(ConfigError, match="TRUNKLINE_AUDIO_GOOGLE_PROJECT is required"):
        load_config({"TRUNKLINE_AUDIO_KEYS": str(KEY_FOLDER), "TRUNKLINE_AUDIO_ENGINE": "google"})
