"""Transcripts as files: what is written, and that players' parsers read it back whole."""

import io
import json
import re
from dataclasses import replace

import audio_transcripts as made
import pytest
import srt
import webvtt
from audio_transcripts import CUSTOMER, VOICE_1, VOICE_2, segment, transcript
from hypothesis import given
from hypothesis import strategies as st
from trunkline_audio.transcripts.export.cues import COLUMNS, cues, width
from trunkline_audio.transcripts.export.formats import MOST_BYTES, exported
from trunkline_runtime.errors import FailedPrecondition

CALL = transcript(
    segment("Good morning, this is River City plumbing. How can I help you today?", 0.5, 4.5),
    segment("There's a leak <under> the sink & it's getting worse.", 5.0, 8.25, CUSTOMER, 1),
    segment("Right.", 6.0, 6.2),
    segment("I can have somebody there by two.", 3661.5, 3663.0),
    seconds=3700.0,
)


def written(kind, of=CALL):
    return exported(of, kind)[1].decode()


def test_text_has_times_and_speakers():
    assert written("text") == (
        "[00:00:00] Agent: Good morning, this is River City plumbing. How can I help you today?\n"
        "[00:00:05] Customer: There's a leak <under> the sink & it's getting worse.\n"
        "[00:00:06] Agent: Right.\n"
        "[01:01:01] Agent: I can have somebody there by two.\n"
    )


def test_subrip():
    assert written("srt") == (
        "1\n00:00:00,500 --> 00:00:04,500\n"
        "Agent: Good morning, this is River City\nplumbing. How can I help you today?\n\n"
        "2\n00:00:05,000 --> 00:00:08,250\nCustomer: There's a leak ‹under›\nthe sink & it's getting worse.\n\n"
        "3\n00:00:06,000 --> 00:00:07,000\nAgent: Right.\n\n"
        "4\n01:01:01,500 --> 01:01:03,000\nI can have somebody there by two.\n\n"
    )


def test_webvtt():
    assert written("vtt") == (
        "WEBVTT\n"
        "\n00:00:00.500 --> 00:00:04.500\n"
        "<v Agent>Good morning, this is River City\nplumbing. How can I help you today?\n"
        "\n00:00:05.000 --> 00:00:08.250\n"
        "<v Customer>There's a leak &lt;under&gt; the\nsink &amp; it's getting worse.\n"
        "\n00:00:06.000 --> 00:00:07.000\n<v Agent>Right.\n"
        "\n01:01:01.500 --> 01:01:03.000\n<v Agent>I can have somebody there by two.\n"
    )


def test_json():
    document = json.loads(written("json"))
    words = document["segments"][2].pop("words")
    assert document.pop("segments")[2] == {
        "speaker": "agent", "channel": 0, "start": 6.0, "end": 6.2, "text": "Right.",
    }  # fmt: skip
    assert words == [{"text": "Right.", "start": 6.0, "end": 6.2, "confidence": 0.5}]
    assert document == {
        "version": 1, "transcript": "tenants/acme/transcripts/t1", "recording": "tenants/acme/recordings/r1",
        "language": "en", "engine": "test/1", "duration": 3700.0, "confidence": 0.5, "unreliableReason": "",
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "empty"), [("text", ""), ("srt", ""), ("vtt", "WEBVTT\n"), ("json", None)])
def test_silence_is_a_file_too(kind, empty):
    data = written(kind, transcript())
    assert data == empty if empty is not None else json.loads(data)["segments"] == []


def test_speakers_without_a_role_are_channels_or_nobody():
    two = transcript(segment("one", 0, 1, 0, 0), segment("two", 1, 2, 0, 1))
    assert written("text", two) == "[00:00:00] Channel 1: one\n[00:00:01] Channel 2: two\n"
    assert written("text", transcript(segment("one", 0, 1, 0))) == "[00:00:00] one\n"
    voices = transcript(segment("one", 0, 1, VOICE_1), segment("two", 1, 2, VOICE_2))
    assert re.findall("<v (.*?)>", written("vtt", voices)) == ["Voice 1", "Voice 2"]


def test_a_subtitle_ends_at_a_pause_and_at_the_end_of_a_sentence():
    words = (("Wait.", 0, 0.4), ("So", 5, 5.2), ("yes.", 5.2, 5.5))
    found = cues(transcript(segment("Wait. So yes.", 0, 6, words=words)))
    assert [(cue.start, cue.end, cue.lines) for cue in found] == [
        (0, 1000, ("Wait.",)),
        (5000, 6000, ("So yes.",)),
    ]
    said = "I called you three times about this on Tuesday and Friday. Nobody has rung me back since then."
    first, second = cues(transcript(segment(said, 0, 6)))
    assert first.lines == ("I called you three times about", "this on Tuesday and Friday.")
    assert second.lines == ("Nobody has rung me back since then.",)


def test_a_script_without_spaces_is_cut_between_words():
    said = ["昨日", "は", "東京", "に", "行き", "ました"] * 6
    words = [(word, n, n + 1) for n, word in enumerate(said)]
    found = cues(transcript(segment("".join(said), 0, len(said), words=words)))
    assert "".join(line for cue in found for line in cue.lines) == "".join(said)
    assert all(width(line) <= COLUMNS for cue in found for line in cue.lines)
    assert all(cue.start % 1000 == 0 for cue in found), "a word was cut"


def test_a_file_that_no_message_holds_is_refused():
    large = replace(CALL, segments=[segment("word " * 1000, 0, 1, words=())] * (MOST_BYTES // 5000 + 1))
    with pytest.raises(FailedPrecondition) as refused:
        exported(large, "text")
    assert refused.value.reason == "EXPORT_TOO_LARGE"


def letters(text):
    return sorted(text.replace(" ", "").replace("\n", ""))


@given(made.transcripts())
def test_subtitles_ascend_are_short_and_hold_every_word(of):
    for reserve in (lambda label: 0, lambda label: len(label) + 2):
        found = cues(of, reserve)
        assert [cue.start for cue in found] == sorted(cue.start for cue in found)
        for cue in found:
            assert 0 <= cue.start < cue.end
            assert 1 <= len(cue.lines) <= 2
            assert all(line and line == line.strip() for line in cue.lines)
            assert width(cue.lines[0]) + reserve(cue.label) <= COLUMNS
            assert width(cue.lines[-1]) <= COLUMNS
        shown = "".join(line for cue in found for line in cue.lines)
        assert letters(shown) == sorted("".join("".join(item["text"].split()) for item in of.segments))


@given(made.segments())
def test_the_words_of_a_segment_are_in_order(item):
    found = cues(transcript(item))
    assert "".join("".join(cue.lines) for cue in found).replace(" ", "") == "".join(item["text"].split())


@given(made.transcripts())
def test_parsers_of_players_read_every_subtitle_back(of):
    expected = cues(of, lambda label: len(label) + 2 if label else 0)
    read = list(srt.parse(written("srt", of)))
    assert [
        (round(one.start.total_seconds() * 1000), round(one.end.total_seconds() * 1000)) for one in read
    ] == [(cue.start, cue.end) for cue in expected]
    assert [one.index for one in read] == list(range(1, len(expected) + 1))
    plain = cues(of)
    vtt = webvtt.from_string(written("vtt", of)) if plain else []
    assert [(one.start_in_seconds, one.voice or "") for one in vtt] == [
        (cue.start // 1000, cue.label) for cue in plain
    ]
    assert [len(one.lines) for one in vtt] == [len(cue.lines) for cue in plain]


@given(st.sampled_from(("text", "srt", "vtt", "json")), made.transcripts())
def test_an_export_is_the_same_each_time(kind, of):
    assert exported(of, kind) == exported(of, kind)
    if kind == "text":
        assert len(io.StringIO(written(kind, of)).readlines()) <= len(of.segments)
