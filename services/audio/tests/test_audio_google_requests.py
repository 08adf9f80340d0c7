"""What Google is asked, what its answers and refusals mean, and how its quota is shared."""

import asyncio
from datetime import timedelta

import audio_sounds as sounds
import grpc
import pytest
from audio_google import Refused, answered
from google.cloud import speech_v2
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st
from trunkline_audio.engines.google import answers, requests
from trunkline_audio.engines.google.engine import GoogleEngine
from trunkline_audio.engines.google.failures import status_error
from trunkline_audio.engines.google.models import google_language, traits_of
from trunkline_audio.engines.google.quota import RequestQuota
from trunkline_audio.engines.google.requests import RequestHints
from trunkline_audio.engines.google.settings import GoogleSettings
from trunkline_audio.engines.windows import Window
from trunkline_audio.media.prepared import Utterance
from trunkline_runtime.engines.base import NOT_READY, EngineError
from trunkline_runtime.engines.rates import BURST_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 16_000


def engine(google, **settings):
    return GoogleEngine(GoogleSettings(project="p1", endpoint=google.endpoint, **settings))


def config(language="en-US", phrases=(), speakers=0, **settings):
    return requests.recognition_config(
        GoogleSettings(**settings), RequestHints(language, tuple(phrases), speakers)
    )


async def test_a_model_is_asked_for_what_it_can():
    chirp = config(speakers=2)
    assert chirp.features.enable_word_time_offsets
    assert not chirp.features.enable_word_confidence
    assert chirp.features.diarization_config.max_speaker_count == 2
    assert "diarization_config" not in config(speakers=2, model="chirp_2").features
    assert "diarization_config" not in config("ar-EG", speakers=2).features, "not in this language"
    assert "diarization_config" in config("", speakers=3).features
    assert "diarization_config" not in config(speakers=1).features
    assert config(model="telephony").features.enable_word_confidence
    assert not config(word_times=False).features.enable_word_time_offsets
    assert "adaptation" not in config(phrases=["River City"], model="chirp")


async def test_a_language_is_asked_for_by_googles_name():
    assert list(config("es").language_codes) == ["es-US"]
    assert list(config("").language_codes) == ["auto"]
    assert list(config("", model="telephony", usual_language="en-GB").language_codes) == ["en-GB"]
    assert google_language("fr-CA") == "fr-CA"
    assert not traits_of("telephony").detects_language


async def test_phrases_are_sets_with_a_boost():
    adaptation = config(phrases=[f"phrase {n}" for n in range(2_500)], phrase_boost=7.5).adaptation
    sets = [one.inline_phrase_set for one in adaptation.phrase_sets]
    assert [len(one.phrases) for one in sets] == [1_200, 1_200, 100]
    assert {one.boost for one in sets} == {7.5}
    assert sets[0].phrases[0].value == "phrase 0"


@given(st.lists(st.text(max_size=130), max_size=60))
async def test_phrases_that_google_takes_are_the_first_ones_each_once(phrases):
    fitting = requests.fitting(phrases)
    assert len(set(fitting)) == len(fitting)
    assert all(0 < len(phrase) <= 100 for phrase in fitting)
    told = [" ".join(phrase.split()) for phrase in phrases]
    assert list(fitting) == [one for one in dict.fromkeys(told) if 0 < len(one) <= 100]


async def test_more_phrases_than_google_takes_are_left_out():
    assert len(requests.fitting(f"p{n}" for n in range(9_000))) == 5_000
    assert sum(map(len, requests.fitting(f"{n:0100}" for n in range(5_000)))) == 100_000


async def test_phrases_and_speakers_reach_google(google, recording):
    async with engine(google) as made:
        await made.transcribe(recording(sounds.voice(3), phrases=("River City",)))
        await made.transcribe(recording(sounds.voice(3), sounds.voice(3, pitch=200)))
    mono, *stereo = google.requests
    assert mono.config.adaptation.phrase_sets[0].inline_phrase_set.phrases[0].value == "River City"
    assert "diarization_config" in mono.config.features
    assert all("diarization_config" not in one.config.features for one in stereo), "channels tell"


async def test_a_feature_that_the_model_has_not_is_asked_for_once(google, recording):
    google.lacks = ("word_level_timestamps", "speaker_diarization")
    async with engine(google) as made:
        heard = await made.transcribe(recording(sounds.voice(3)))
        assert heard.segments
        assert len(google.requests) == 3
        await made.transcribe(recording(sounds.voice(3)))
    assert len(google.requests) == 4


@pytest.mark.parametrize(
    ("code", "message", "reason", "transient"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "Audio is too long", "ENGINE_INVALID_ARGUMENT", False),
        (
            grpc.StatusCode.INVALID_ARGUMENT,
            'The language "xx-XX" is not supported by the model "chirp_3" in the location named "us".',
            "LANGUAGE_NOT_SUPPORTED",
            False,
        ),
        (grpc.StatusCode.PERMISSION_DENIED, "no access", NOT_READY, True),
        (grpc.StatusCode.NOT_FOUND, "Unable to find Recognizer calls", NOT_READY, True),
        (grpc.StatusCode.UNAUTHENTICATED, "who are you", NOT_READY, True),
        (grpc.StatusCode.UNIMPLEMENTED, "no such method", "ENGINE_UNIMPLEMENTED", False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", "ENGINE_QUOTA", True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "slow", "ENGINE_DEADLINE_EXCEEDED", True),
    ],
)
async def test_refusals_for_good_and_in_passing_are_told_apart(
    google, recording, code, message, reason, transient
):
    google.script = [Refused(code, message)] * 9
    async with engine(google, patience_seconds=0) as made:
        with pytest.raises(EngineError) as told:
            await made.transcribe(recording(sounds.voice(3)))
    assert (told.value.reason, told.value.transient) == (reason, transient)
    assert len(google.requests) == 1
    error = status_error(status_pb2.Status(code=code.value[0], message=message))
    assert (error.reason, error.transient) == (reason, transient)


WINDOW = Window(0, (Utterance(0, 0, 2 * RATE, 1), Utterance(0, 10 * RATE, 13 * RATE, 2)))


def spoken(*told, transcript=None, times=True):
    infos = []
    for n, (word, label) in enumerate(told):
        info = speech_v2.WordInfo(word=word, speaker_label=label)
        if times:
            info.start_offset, info.end_offset = timedelta(seconds=n), timedelta(seconds=n + 1)
        infos.append(info)
    text = " ".join(word for word, _ in told) if transcript is None else transcript
    best = speech_v2.SpeechRecognitionAlternative(transcript=text, words=infos)
    return speech_v2.SpeechRecognitionResult(alternatives=[best])


def voices(*results, window=WINDOW):
    return [(one.voice, one.text) for one in answers.segments([answers.heard(window, answered(*results))])]


async def test_speakers_are_numbered_in_the_order_in_which_they_speak():
    assert voices(spoken(("Hello.", "2"), ("Yes?", "7"), ("Hi.", "2"), ("Me.", "4"))) == [
        (1, "Hello."),
        (2, "Yes?"),
        (1, "Hi."),
        (3, "Me."),
    ]
    four = [voice for voice, _ in voices(spoken(*((f"w{n}", str(n)) for n in range(4))))]
    assert sorted(four) == [0, 1, 2, 3], "no more than three are told apart"


async def test_speakers_without_times_take_turns_by_the_length_of_their_words():
    told = answers.segments(
        [answers.heard(WINDOW, answered(spoken(("aaaa", "1"), ("aaaa", "1"), ("bb", "2"), times=False)))]
    )
    assert [(one.voice, one.text, one.words) for one in told] == [(1, "aaaa aaaa", ()), (2, "bb", ())]
    assert told[0].start == 0
    assert told[0].end == told[1].start
    assert 10 < told[1].start < told[1].end <= 13


async def test_a_transcript_that_is_not_its_words_has_the_voice_of_most_of_them():
    result = spoken(("twenty", "1"), ("dollars", "2"), ("now", "2"), transcript="$20 now.")
    assert voices(result, spoken(("Yes.", "1"))) == [(1, "$20 now."), (2, "Yes.")]


async def test_speakers_of_several_answers_are_matched_by_their_sound():
    other = Window(0, (Utterance(0, 20 * RATE, 22 * RATE, 2), Utterance(0, 30 * RATE, 33 * RATE, 1)))
    first = spoken(("Hello", "1"), ("you.", "1"), ("Yes", "2"), ("me.", "2"))
    second = spoken(("Yes", "1"), ("so.", "1"), ("Good", "2"), ("day.", "2"))
    heard = [answers.heard(WINDOW, answered(first)), answers.heard(other, answered(second))]
    assert [one.voice for one in answers.segments(heard)] == [1, 2, 2, 1]


async def test_answers_without_speakers_keep_the_voices_of_their_sound():
    assert [voice for voice, _ in voices(spoken(("Hello", ""), ("you.", ""), ("Yes", ""), ("me.", "")))] == [
        1,
        2,
    ]


@given(
    st.lists(
        st.tuples(
            st.text(max_size=8),
            st.sampled_from(["", "1", "2", "3", "4"]),
            st.one_of(st.none(), st.floats(0, 100)),
            st.one_of(st.none(), st.floats(0, 100)),
        ),
        max_size=12,
    ),
    st.text(max_size=30),
)
async def test_whatever_google_answers_becomes_segments_in_order(told, transcript):
    infos = []
    for word, label, start, end in told:
        info = speech_v2.WordInfo(word=word, speaker_label=label)
        if start is not None:
            info.start_offset = timedelta(seconds=start)
        if end is not None:
            info.end_offset = timedelta(seconds=end)
        infos.append(info)
    best = speech_v2.SpeechRecognitionAlternative(transcript=transcript, words=infos)
    result = speech_v2.SpeechRecognitionResult(alternatives=[best])
    for segment in answers.segments([answers.heard(WINDOW, answered(result))]):
        assert segment.text
        assert 0 <= segment.voice <= 3
        assert 0 <= segment.start <= segment.end <= 13
        for word in segment.words:
            assert segment.start <= word.start <= word.end <= segment.end


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


async def test_requests_are_no_more_a_minute_than_was_set():
    clock = Clock()
    quota = RequestQuota(16, 60, now=clock, sleep=clock.sleep)
    for _ in range(120):
        await quota.due()
    assert clock.now == pytest.approx(119)
    clock.now += 3_600
    begun = clock.now
    for _ in range(20):
        await quota.due()
    assert clock.now - begun == pytest.approx(19 - BURST_SECONDS)


async def test_a_tenant_with_many_recordings_does_not_make_another_wait_for_all_of_them():
    clock = Clock()

    async def sleep(seconds):
        clock.now += seconds
        await asyncio.sleep(0)

    quota, order = RequestQuota(2, 60, now=clock, sleep=sleep), []

    async def ask(tenant, recording):
        async with quota.turn(tenant, recording):
            await quota.due()
            order.append(tenant)

    many = [asyncio.create_task(ask("big", f"r{n}")) for n in range(20)]
    await asyncio.sleep(0)
    await asyncio.gather(*many, asyncio.create_task(ask("small", "r")))
    assert order.index("small") < 6
