import time

import pytest
from google.protobuf.duration_pb2 import Duration
from trunkline.ai.v1 import analysis_service_pb2
from trunkline.audio.v1 import transcript_pb2 as audio
from trunkline.common.v1 import provider_pb2
from trunkline_ai.analyses.dialogue import RoleWords, dialogue_of, input_digest
from trunkline_ai.engines.base import SpeakerRole
from trunkline_ai.names import analysis_id


def roles(*segments):
    request = analysis_service_pb2.AnalyzeCallRequest(
        transcript=audio.Transcript(segments=[audio.Segment(speaker=s, text=t) for s, t in segments])
    )
    return [turn.role for turn in dialogue_of(request).transcript.turns]


def test_the_voice_that_greets_is_the_business():
    greeted = roles(
        (audio.SPEAKER_VOICE_1, "uh hi"), (audio.SPEAKER_VOICE_2, "Thank you for calling, how can I help?")
    )
    assert greeted == [SpeakerRole.CUSTOMER, SpeakerRole.AGENT]


def test_without_a_greeting_the_first_voice_is_the_business():
    assert roles((audio.SPEAKER_VOICE_2, "carters"), (audio.SPEAKER_VOICE_1, "i need a tow")) == [
        SpeakerRole.AGENT, SpeakerRole.CUSTOMER,
    ]  # fmt: skip


def test_one_voice_is_the_customer_unless_it_greets():
    assert roles((audio.SPEAKER_VOICE_1, "press one now")) == [SpeakerRole.CUSTOMER]
    assert roles((audio.SPEAKER_VOICE_1, "thank you for calling i need a quote")) == [SpeakerRole.UNKNOWN]


def test_neighbouring_segments_of_a_speaker_are_one_turn():
    assert roles(
        (audio.SPEAKER_AGENT, "hello"),
        (audio.SPEAKER_CUSTOMER, "hi"),
        (audio.SPEAKER_CUSTOMER, "a quote please"),
    ) == [SpeakerRole.AGENT, SpeakerRole.CUSTOMER]


def one_voice(segments, words=10):
    """A request of one speaker's segments, with the times of all words."""
    text = " ".join(["word"] * words)
    times = [audio.Word(text="word", end_offset=Duration(seconds=1))] * words
    segment = audio.Segment(
        speaker=audio.SPEAKER_CUSTOMER, text=text, end_offset=Duration(seconds=1), words=times
    )
    return analysis_service_pb2.AnalyzeCallRequest(transcript=audio.Transcript(segments=[segment] * segments))


def test_the_times_of_segments_that_are_one_turn_stand_at_their_words():
    (turn,) = dialogue_of(one_voice(3, words=2)).transcript.turns
    assert turn.text == " ".join(["word"] * 6)
    assert [one.start for one in turn.times] == [0, 5, 10, 15, 20, 25]


def test_an_hour_of_one_voice_costs_as_much_a_segment_as_a_minute():
    def took(request):
        began = time.process_time()
        dialogue_of(request)
        return time.process_time() - began

    short, long = one_voice(1_500), one_voice(12_000)
    assert min(took(long) for _ in range(3)) < 16 * min(took(short) for _ in range(5)), "8 times is usual"


def test_a_text_is_one_turn_of_the_customer():
    made = dialogue_of(analysis_service_pb2.AnalyzeCallRequest(text="how much is a roof"))
    assert [turn.role for turn in made.transcript.turns] == [SpeakerRole.CUSTOMER]
    assert made.context.message


@pytest.mark.parametrize(
    ("direction", "role"),
    [
        (provider_pb2.DIRECTION_OUTBOUND, SpeakerRole.AGENT),
        (provider_pb2.DIRECTION_INBOUND, SpeakerRole.CUSTOMER),
        (provider_pb2.DIRECTION_UNSPECIFIED, SpeakerRole.CUSTOMER),
    ],
)
def test_a_text_is_of_whoever_sent_it(direction, role):
    made = dialogue_of(
        analysis_service_pb2.AnalyzeCallRequest(text="Sure, we will call", direction=direction)
    )
    assert [turn.role for turn in made.transcript.turns] == [role]


def context_of(**facts):
    request = analysis_service_pb2.AnalyzeCallRequest(transcript=audio.Transcript(**facts))
    return dialogue_of(request).context


def test_the_transcripts_language_and_its_reason_are_passed_on():
    assert context_of(language="es").language == "es"
    assert context_of(language="es").unreliable == ""
    assert context_of(unreliable=True, unreliable_reason="language_not_supported").unreliable == (
        "language_not_supported"
    )
    assert context_of(unreliable=True).unreliable == "low_confidence"


def test_what_changes_the_answer_is_in_the_digest_and_what_does_not_is_not():
    def digest(**facts):
        request = analysis_service_pb2.AnalyzeCallRequest(transcript=audio.Transcript(**facts))
        return dialogue_of(request).digest

    unreliable = {"unreliable": True, "unreliable_reason": "low_confidence"}
    different = [
        {},
        {"language": "es"},
        unreliable,
        {**unreliable, "unreliable_reason": "language_not_supported"},
    ]
    assert len({digest(**facts) for facts in different}) == len(different)
    assert digest(language="es", language_confidence=0.5, overruled_language="en") == digest(language="es")


def said(*segments, **facts):
    spoken = [audio.Segment(speaker=speaker, text=text) for speaker, text in segments]
    return analysis_service_pb2.AnalyzeCallRequest(transcript=audio.Transcript(segments=spoken), **facts)


CALL = "tenants/acme/calls/call-1"
IDS = [
    "usdt3fqss4h5xzj3l3beqtwxqww5erql",
    "5cztpzjhh4pbg3rkrv5mf4qsw4vghcua",
    "lzlytutrb5mricdqtoe6ewu2j63y7u6q",
]
VOICES = ((audio.SPEAKER_VOICE_1, "Hello there"), (audio.SPEAKER_VOICE_2, "Acme Plumbing, good day"))


def identity(request, words):
    return analysis_id(CALL, dialogue_of(request, words).digest, request.generation)


@pytest.mark.parametrize(
    "spoken",
    [VOICES, ((audio.SPEAKER_CUSTOMER, "Acme Plumbing, good day"), (audio.SPEAKER_AGENT, "I need a quote"))],
    ids=["voices", "channels the wrong way round"],
)
def test_another_word_in_a_list_tells_other_roles_and_is_the_same_analysis(spoken):
    before, after = RoleWords((), ()), RoleWords(("good day",), ("good day",))
    told = [
        [turn.role for turn in dialogue_of(said(*spoken), words).transcript.turns]
        for words in (before, after)
    ]
    assert told[0] != told[1], "the list counts"
    assert identity(said(*spoken), before) == identity(said(*spoken), after)


def test_any_change_of_what_was_said_or_by_whom_is_another_analysis():
    hello, good_day = VOICES
    inputs = [
        said(hello, good_day),
        said(good_day, hello),
        said(hello),
        said(hello, (good_day[0], "Acme Plumbing, good da"), (good_day[0], "y")),
        said((audio.SPEAKER_VOICE_2, hello[1]), good_day),
        said((audio.SPEAKER_AGENT, hello[1]), (audio.SPEAKER_CUSTOMER, good_day[1])),
        said((hello[0], "hello there"), good_day),
        said(hello, good_day, voicemail=True),
        analysis_service_pb2.AnalyzeCallRequest(text="Hello there"),
        analysis_service_pb2.AnalyzeCallRequest(
            text="Hello there", direction=provider_pb2.DIRECTION_OUTBOUND
        ),
    ]
    assert len({input_digest(one) for one in inputs}) == len(inputs)


def test_the_ids_of_analyses_are_the_same_in_every_version():
    made = [
        analysis_id(CALL, input_digest(request), generation)
        for request, generation in (
            (said(*VOICES), 0),
            (said(*VOICES), 1),
            (analysis_service_pb2.AnalyzeCallRequest(text="How much is a roof?"), 0),
        )
    ]
    assert made == IDS


def test_channels_that_are_the_wrong_way_round_are_turned():
    assert roles(
        (audio.SPEAKER_CUSTOMER, "acme plumbing how can i help you"), (audio.SPEAKER_AGENT, "i need a quote")
    ) == [SpeakerRole.AGENT, SpeakerRole.CUSTOMER]
    told = roles(
        (audio.SPEAKER_AGENT, "how can i help you"), (audio.SPEAKER_CUSTOMER, "can i help you with that")
    )
    assert told == [SpeakerRole.AGENT, SpeakerRole.CUSTOMER]
