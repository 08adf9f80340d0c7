"""Sound as it is spoken: StreamingRecognize of a local server, over its limits."""

import itertools

import grpc
import numpy as np
import pytest
from audio_google import Refused, Spoken
from trunkline_audio.engines.google.engine import GoogleEngine
from trunkline_audio.engines.google.settings import GoogleSettings
from trunkline_audio.engines.google.streams import FAILURES
from trunkline_runtime.engines.base import NOT_READY, EngineError

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 16_000


def numbered(seconds):
    """Sound whose every tenth of a second says which one it is."""
    return np.repeat(np.arange(round(seconds * 10), dtype="<i2") % 30_000, RATE // 10).tobytes()


async def spoken(sound, piece=RATE * 2):
    for begin in range(0, len(sound), piece):
        yield sound[begin : begin + piece]


async def heard(google, sound, language="en-US", piece=RATE * 2, **settings):
    async with GoogleEngine(GoogleSettings(project="p1", endpoint=google.endpoint, **settings)) as made:
        return [segment async for segment in made.stream(spoken(sound, piece), language)]


async def failing(call):
    with pytest.raises(EngineError) as failure:
        await call
    return failure.value


def is_same(one, other):
    """Whether bytes are the same; a difference of megabytes is nothing to print."""
    return bytes(one) == bytes(other)


def seconds_of(sound):
    return len(sound) / 2 / RATE


async def test_what_is_final_is_told_with_its_time(google):
    told = await heard(google, numbered(25))
    assert [(one.start, one.end, one.text) for one in told] == [
        (0, 10, "10.00"),
        (10, 20, "10.00"),
        (20, 25, "5.00"),
    ]
    first, sound = google.streams[0]
    asked = first.streaming_config.config
    assert (asked.model, list(asked.language_codes)) == ("chirp_3", ["en-US"])
    assert asked.explicit_decoding_config.sample_rate_hertz == RATE
    assert is_same(sound, numbered(25))


async def test_a_long_sound_goes_over_where_a_result_ends_and_loses_nothing(google):
    sound = numbered(700)
    google.stream_script = [Spoken(every=13), Spoken(every=13), Spoken(every=13)]
    told = await heard(google, sound)
    assert sum(float(one.text) for one in told) == pytest.approx(700)
    assert all(after.start == pytest.approx(before.end) for before, after in itertools.pairwise(told))
    assert told[-1].end == pytest.approx(700)
    sent = [bytes(kept) for _, kept in google.streams]
    assert len(sent) == 3
    begins = sound[247 * RATE * 2 : 248 * RATE * 2]
    assert is_same(sent[1][: len(begins)], begins), "it begins where the result ended"


async def test_without_a_pause_a_stream_ends_in_its_quietest_moment(google):
    rng = np.random.default_rng(1)
    loud = (rng.standard_normal(320 * RATE) * 8_000).astype("<i2")
    loud[282 * RATE : 282 * RATE + RATE // 5] = 0
    google.stream_script = [Spoken(every=0), Spoken(every=0)]
    told = await heard(google, loud.tobytes())
    first, second = (bytes(kept) for _, kept in google.streams)
    assert 282 <= seconds_of(first) <= 282.2
    assert is_same(first + second, loud.tobytes())
    assert [round(one.end) for one in told] == [282, 320]


async def test_silence_of_any_length_has_no_words_and_is_sent_once(google):
    class Nothing(Spoken):
        def end(self, seconds):
            yield from ()

    google.stream_script = [Nothing(every=0), Nothing(every=0)]
    assert await heard(google, bytes(RATE * 2 * 400)) == []
    assert sum(seconds_of(kept) for _, kept in google.streams) == 400


async def test_a_stream_that_breaks_goes_on_behind_the_last_final_word(google):
    sound = numbered(60)
    unavailable = Refused(grpc.StatusCode.UNAVAILABLE, "the connection was lost")
    google.stream_script = [
        Spoken(every=10, fails_at=35, refused=unavailable),
        Refused(*_ENDED),
        Spoken(every=10),
    ]
    told = await heard(google, sound)
    assert [round(one.end) for one in told] == [10, 20, 30, 40, 50, 60]
    assert is_same(google.streams[-1][1], sound[30 * RATE * 2 :])


_ENDED = (grpc.StatusCode.ABORTED, "Max duration of 5 minutes reached for stream.")


async def test_a_service_that_stays_away_is_told(google):
    google.stream_script = [Refused(grpc.StatusCode.UNAVAILABLE, "away")] * 9
    error = await failing(heard(google, numbered(5)))
    assert (error.reason, error.transient) == ("ENGINE_UNAVAILABLE", True)
    assert len(google.streams) == FAILURES


@pytest.mark.parametrize(
    ("code", "reason", "transient"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "ENGINE_INVALID_ARGUMENT", False),
        (grpc.StatusCode.PERMISSION_DENIED, NOT_READY, True),
    ],
)
async def test_a_refusal_is_told_at_once(google, code, reason, transient):
    google.stream_script = [Refused(code, "no")] * FAILURES
    error = await failing(heard(google, numbered(5)))
    assert (error.reason, error.transient) == (reason, transient)
    # One that comes while sound is being sent is an INTERNAL of gRPC's now and then, which passes.
    assert len(google.streams) < FAILURES


async def test_a_feature_that_the_model_has_not_is_not_asked_for(google):
    google.lacks = ("word_level_timestamps",)
    assert len(await heard(google, numbered(15))) == 2


async def test_odd_pieces_make_whole_samples(google):
    sound = numbered(11)
    await heard(google, sound, piece=999)
    assert is_same(google.streams[0][1], sound)


async def test_a_sound_that_fails_is_heard_until_then(google):
    async def broken():
        yield numbered(12)
        raise OSError("the line is dead")

    told = []

    async def listen():
        async with GoogleEngine(GoogleSettings(project="p1", endpoint=google.endpoint)) as made:
            async for segment in made.stream(broken(), ""):
                told.append(segment)

    with pytest.raises(OSError, match="the line is dead"):
        await listen()
    assert [round(one.end) for one in told] == [10, 12]


async def test_whoever_stops_listening_ends_the_stream(google):
    async def endless():
        while True:
            yield numbered(1)

    async with GoogleEngine(GoogleSettings(project="p1", endpoint=google.endpoint)) as made:
        stream = made.stream(endless(), "en")
        assert (await anext(stream)).text == "10.00"
        await stream.aclose()
    assert len(google.streams) == 1
