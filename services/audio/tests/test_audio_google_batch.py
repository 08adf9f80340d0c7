"""Long recordings through a bucket: BatchRecognize of a local server, submitted, asked about, and given up."""

import json
from pathlib import Path

import audio_sounds as sounds
import grpc
import numpy as np
import pytest
from audio_google import FileFailed, OperationFailed, Refused, answered, words
from trunkline_audio.engines.google.batch import TRIES, GoogleBatchEngine, file_seconds
from trunkline_audio.engines.google.settings import GoogleSettings
from trunkline_audio.engines.loader import load_engines
from trunkline_audio.engines.settings import SpeechEngineSettings
from trunkline_audio.media.blobs.failures import REFUSED
from trunkline_audio.media.blobs.failures import UNAVAILABLE as UNAVAILABLE_BUCKET
from trunkline_audio.media.blobs.gcs import GcsBlobs
from trunkline_audio.media.blobs.settings import BlobSettings
from trunkline_runtime.engines.base import NOT_READY, EngineError
from trunkline_runtime.errors import Unavailable

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 16_000
QUIET = np.zeros(2 * RATE, np.float32)
LONG = np.tile(np.concatenate([sounds.voice(8), QUIET]), 8)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def engine(google, **settings):
    given = {"project": "p1", "endpoint": google.endpoint, "bucket": "gs://calls", "patience_seconds": 2.0}
    return GoogleBatchEngine(GoogleSettings(**(given | settings)), google.bucket)


async def ended(made, name, most=20):
    for _ in range(most):
        told = await made.poll(name)
        if told.result is not None:
            return told.result
    raise AssertionError("it does not end")


async def failing(call):
    with pytest.raises(EngineError) as failure:
        await call
    return failure.value


async def test_a_long_recording_is_one_file_a_channel_with_an_inline_answer(google, recording):
    async with engine(google, location="eu", recognizer="calls") as made:
        name = await made.submit(recording(LONG, np.roll(LONG, 5 * RATE), phrases=("River City",)))
        heard = await ended(made, name)
    assert len(google.batches) == 2
    batch = google.batches[0]
    assert batch.recognizer == "projects/p1/locations/eu/recognizers/calls"
    assert "inline_response_config" in batch.recognition_output_config
    assert len(batch.files) == 1
    assert batch.files[0].uri.startswith(f"gs://calls/{name}/")
    assert batch.config.adaptation.phrase_sets[0].inline_phrase_set.phrases[0].value == "River City"
    assert {segment.lane for segment in heard.segments} == {0, 1}
    assert heard.segments[0].start < 10
    assert heard.segments[-1].end > 70
    assert (heard.language, heard.lanes) == ("en-US", 2)


async def test_what_is_long_is_submitted_and_what_is_short_is_not(google, tmp_path):
    async with engine(google) as made:
        assert made.capabilities.submits
        assert made.capabilities.longest_seconds == 60
    settings = SpeechEngineSettings(
        engines=("google",), google=GoogleSettings(project="p", bucket="gs://calls")
    )
    assert load_engines(settings, tmp_path)["google"].capabilities.submits
    settings = SpeechEngineSettings(engines=("google",), google=GoogleSettings(project="p"))
    assert not load_engines(settings, tmp_path)["google"].capabilities.submits


async def test_progress_is_told_in_seconds_of_speech(google, recording):
    google.polls = 2
    async with engine(google) as made:
        name = await made.submit(recording(LONG))
        seconds = [(await made.poll(name)).seconds for _ in range(3)]
    assert seconds[0] == 0
    assert 25 < seconds[1] < 40
    assert 55 < seconds[2] < 75


async def test_another_process_takes_up_what_was_submitted(google, recording):
    async with engine(google) as made:
        name = await made.submit(recording(LONG))
    async with engine(google) as another:
        assert (await ended(another, name)).segments
    assert len(google.batches) == 1, "it is paid for once"


async def test_the_manifest_holds_no_word(google, recording):
    async with engine(google) as made:
        name = await made.submit(recording(LONG))
        await ended(made, name)
    kept = json.loads(google.bucket.objects[f"{name}/manifest.json"])
    assert [file["operation"] for file in kept["files"]] == list(google.operations)
    assert "said" not in google.bucket.objects[f"{name}/manifest.json"].decode()


async def test_the_sound_is_deleted_at_the_end_and_the_answer_stays(google, recording):
    async with engine(google) as made:
        name = await made.submit(recording(LONG))
        assert len(google.bucket.objects) == 2
        heard = await ended(made, name)
        assert list(google.bucket.objects) == [f"{name}/manifest.json"]
        assert await ended(made, name) == heard


async def test_silence_is_not_handed_over(google, recording):
    async with engine(google) as made:
        heard = await ended(made, await made.submit(recording(np.tile(QUIET, 40))))
    assert (heard.segments, heard.usage.cost_micros, google.batches) == ((), 0, [])


async def test_what_google_may_do_at_night_is_cheaper(google, recording):
    google.answer = lambda _, seconds: answered(words(seconds), billed=60)
    prices = {"price_micros_per_minute": 16_000, "dynamic_price_micros_per_minute": 3_000}
    async with engine(google, **prices) as made:
        assert (await ended(made, await made.submit(recording(LONG)))).usage.cost_micros == 16_000
    async with engine(google, dynamic_batching=True, **prices) as made:
        assert (await ended(made, await made.submit(recording(LONG)))).usage.cost_micros == 3_000
    assert [int(batch.processing_strategy) for batch in google.batches] == [0, 1]


async def test_an_operation_or_file_that_fails_in_passing_is_begun_again(google, recording):
    google.script = [OperationFailed(UNAVAILABLE, "try again")]
    async with engine(google) as made:
        name = await made.submit(recording(LONG))
        assert (await ended(made, name)).segments
        google.script = [FileFailed(grpc.StatusCode.INTERNAL, "a worker was lost")]
        assert (await ended(made, await made.submit(recording(LONG)))).segments
    assert len(google.batches) == 4
    assert google.batches[0].files[0].uri == google.batches[1].files[0].uri, "nothing is uploaded again"


async def test_one_that_fails_again_and_again_is_given_up(google, recording):
    async with engine(google) as made:
        google.script = [OperationFailed(UNAVAILABLE, "try again")]
        name = await made.submit(recording(LONG))
        for _ in range(TRIES - 1):
            for _ in range(google.polls):
                await made.poll(name)
            google.script = [None, OperationFailed(UNAVAILABLE, "try again")]
            assert (await made.poll(name)).result is None
        for _ in range(google.polls):
            await made.poll(name)
        error = await failing(made.poll(name))
    assert (error.reason, error.transient) == ("ENGINE_UNAVAILABLE", False)
    assert len(google.batches) == TRIES


async def test_a_file_that_is_refused_for_good_ends_the_submission(google, recording):
    google.script = [FileFailed(grpc.StatusCode.INVALID_ARGUMENT, "Audio data does not appear to be FLAC")]
    async with engine(google) as made:
        name = await made.submit(recording(LONG))
        await made.poll(name)
        error = await failing(made.poll(name))
    assert (error.reason, error.transient) == ("ENGINE_INVALID_ARGUMENT", False)
    assert len(google.batches) == 1


async def test_a_bucket_that_google_may_not_read_makes_the_job_wait(google, recording):
    google.script = [OperationFailed(grpc.StatusCode.PERMISSION_DENIED, "no access to the bucket")]
    async with engine(google) as made:
        name = await made.submit(recording(LONG))
        await made.poll(name)
        error = await failing(made.poll(name))
        assert (error.reason, error.transient) == (NOT_READY, True)
        assert (await ended(made, name)).segments, "once it is mended"


async def test_a_poll_that_google_cannot_answer_now_is_repeated(google, recording):
    async with engine(google) as made:
        name = await made.submit(recording(LONG))
        google.script = [Refused(UNAVAILABLE, "try again")]
        assert (await ended(made, name)).segments
        google.script = [Refused(UNAVAILABLE, "try again")] * 99
        error = await failing(made.poll(name))
    assert (error.reason, error.transient) == ("ENGINE_UNAVAILABLE", True)


async def test_a_submission_that_cannot_be_begun_leaves_nothing(google, recording):
    google.script = [None, Refused(grpc.StatusCode.INVALID_ARGUMENT, "no such model")]
    async with engine(google) as made:
        error = await failing(made.submit(recording(LONG, np.roll(LONG, 5 * RATE))))
    assert not error.transient
    assert google.bucket.objects == {}
    assert google.operations == {}


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Unavailable("the bucket is away", reason=UNAVAILABLE_BUCKET), "ENGINE_UNAVAILABLE"),
        (Unavailable("no right", reason=REFUSED), NOT_READY),
    ],
)
async def test_a_bucket_that_fails_is_told_as_what_it_is(google, recording, failure, reason):
    google.bucket.failures = [failure]
    async with engine(google) as made:
        error = await failing(made.submit(recording(LONG)))
        assert (error.reason, error.transient) == (reason, True)
    assert google.batches == []


async def test_what_is_given_up_is_cancelled_and_deleted(google, recording):
    async with engine(google) as made:
        name = await made.submit(recording(LONG))
        assert google.operations
        await made.cancel(name)
        assert (google.operations, google.bucket.objects) == ({}, {})
        await made.cancel(name)
        error = await failing(made.poll(name))
    assert (error.reason, error.transient) == ("SUBMISSION_GONE", False)


async def test_files_are_as_long_as_the_model_takes():
    assert file_seconds(GoogleSettings()) == 20 * 60 - 1
    assert file_seconds(GoogleSettings(word_times=False)) == 60 * 60 - 1
    assert file_seconds(GoogleSettings(model="long")) == 60 * 60 - 1


async def test_the_bucket_of_the_settings_is_the_one_of_blobs():
    bucket = GcsBlobs(BlobSettings(bucket="gs://calls/in/"), Path("unused"))
    assert bucket.uri("s.acme/1/sound/0.flac") == "gs://calls/in/s.acme/1/sound/0.flac"
