"""Who talks how much: the sums hold for any transcript, and the figures are those of a call written down."""

import audio_transcripts as made
from audio_transcripts import AGENT, CUSTOMER, SECOND, VOICE_1, segment, transcript
from hypothesis import given
from hypothesis import strategies as st
from trunkline_audio.features.spans import holding, merged, total, touches, without
from trunkline_audio.features.talk import activity, audio_features, interruptions, longest_monologue

SPANS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)).map(sorted).map(tuple)).map(merged)


def seconds(value):
    return value.ToMicroseconds() / SECOND


def test_a_call():
    said = transcript(
        segment("one two three four", 1, 5),
        segment("five six", 4, 7, CUSTOMER, 1),  # begins before the agent has ended, and goes on
        segment("mhm", 8, 8.5),
        segment("seven eight nine", 7.5, 10, CUSTOMER, 1),
        segment("ten", 11.5, 12.5, CUSTOMER, 1),
        seconds=20,
    )
    found = audio_features(said)
    assert found.name == "tenants/acme/transcripts/t1/audioFeatures"
    agent, customer = found.speakers
    assert (agent.speaker, agent.channel, customer.speaker, customer.channel) == (AGENT, 0, CUSTOMER, 1)
    assert (seconds(agent.talk_duration), seconds(customer.talk_duration)) == (4.5, 7.0)
    assert (seconds(found.duration), seconds(found.overlap_duration), found.overlaps) == (20, 1.5, 2)
    assert (seconds(found.silence_duration), seconds(found.longest_silence_duration)) == (10.0, 7.5)
    assert (agent.interruptions, customer.interruptions) == (0, 1)
    assert seconds(agent.longest_monologue_duration) == 3.0
    assert seconds(customer.longest_monologue_duration) == 4.0, "from 8.5 to 12.5, with a pause of 1.5 s"
    assert (agent.words, customer.words) == (5, 6)
    assert abs(agent.words_per_minute - 66.7) < 0.01
    assert abs(agent.talk_ratio - 4.5 / 11.5) < 1e-6
    assert not found.best_effort


def test_a_pause_within_a_segment_is_silence():
    words = (("well", 0, 1), ("so", 4, 5), ("then", 5.4, 6))
    found = audio_features(transcript(segment("well so then", 0, 6, words=words), seconds=10))
    assert seconds(found.speakers[0].talk_duration) == 3.0
    assert seconds(found.longest_silence_duration) == 4.0


def test_voices_of_one_channel_and_nobody_are_best_effort():
    assert audio_features(transcript(segment("a", 0, 1, VOICE_1), channels=1)).best_effort
    assert audio_features(transcript(segment("a", 0, 1, 0), channels=1)).best_effort
    assert not audio_features(transcript(segment("a", 0, 1, 0), segment("b", 0, 1, 0, 1))).best_effort


def test_silence_has_no_speakers():
    found = audio_features(transcript(seconds=3))
    assert (len(found.speakers), found.overlaps, found.best_effort) == (0, 0, False)
    assert seconds(found.silence_duration) == seconds(found.longest_silence_duration) == 3


@given(made.transcripts())
def test_talk_and_silence_without_overlap_are_the_whole(of):
    found = audio_features(of)
    talk = sum(one.talk_duration.ToMicroseconds() for one in found.speakers)
    overlap = found.overlap_duration.ToMicroseconds()
    assert talk - overlap + found.silence_duration.ToMicroseconds() == of.duration_us
    assert overlap >= 0
    assert (overlap > 0) == (found.overlaps > 0)
    assert found.longest_silence_duration.ToMicroseconds() <= found.silence_duration.ToMicroseconds()
    assert not talk or abs(sum(one.talk_ratio for one in found.speakers) - 1) < 1e-5
    for one in found.speakers:
        assert one.longest_monologue_duration.ToMicroseconds() <= of.duration_us
        assert one.words >= 0


def moments(spans):
    return {moment for start, end in spans for moment in range(start, end)}


@given(SPANS, SPANS)
def test_spans_are_sets_of_moments(mine, others):
    left = list(without(mine, others))
    assert moments(left) == moments(mine) - moments(others)
    assert total(left) == len(moments(left))
    assert moments(merged(mine + others)) == moments(mine) | moments(others)
    for start, end in mine:
        assert touches(others, start, end) == bool(moments([(start, end)]) & moments(others))
        held = holding(others, start)
        assert (held is not None) == any(first < start < last for first, last in others)
    found = activity([mine, others], 200)
    assert found.overlap == len(moments(mine) & moments(others))
    assert found.silence == 200 - len(moments(mine) | moments(others))


def test_a_monologue_ends_with_another_voice_or_a_long_pause():
    mine = [(0, SECOND), (2 * SECOND, 3 * SECOND), (8 * SECOND, 10 * SECOND)]
    assert longest_monologue(mine, []) == 3 * SECOND
    assert longest_monologue(mine, [(int(1.5 * SECOND), int(1.6 * SECOND))]) == 2 * SECOND
    assert longest_monologue([], mine) == 0


def test_an_interruption_goes_on_after_the_other_one_has_ended():
    assert interruptions([(5, 8), (20, 30)], [(0, 10), (18, 25)]) == 1
    assert interruptions([(0, 10)], [(0, 5)]) == 0, "both began at once"
