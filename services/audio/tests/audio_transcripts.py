"""Transcripts for tests: written down, and drawn by hypothesis."""

from datetime import UTC, datetime

from hypothesis import strategies as st
from trunkline_audio.transcripts.rows import Transcript

SECOND = 1_000_000
AGENT, CUSTOMER, VOICE_1, VOICE_2 = 1, 2, 3, 4


def segment(text, start, end, speaker=AGENT, channel=0, words=None):
    """A segment as it is stored; times in seconds. `words` None: each a share of the time; (): the engine gave none."""
    begin, stop = round(start * SECOND), round(end * SECOND)
    if words is None:
        split = text.split()
        step = (stop - begin) / max(1, len(split))
        words = [
            [word, round(begin + step * n), round(begin + step * (n + 1)), 0.5]
            for n, word in enumerate(split)
        ]
    else:
        words = [[word, round(first * SECOND), round(last * SECOND), 0.5] for word, first, last in words]
    return {
        "speaker": speaker,
        "channel": channel,
        "start": begin,
        "end": stop,
        "text": text,
        "words": words,
    }


def transcript(*segments, seconds=60.0, channels=2):
    return Transcript(
        tenant_id="acme",
        transcript_id="t1",
        recording_id="r1",
        generation=0,
        language="en",
        speakers=len({item["speaker"] for item in segments}),
        channels=channels,
        duration_us=round(seconds * SECOND),
        speech_us=0,
        confidence=0.5,
        unreliable_reason="",
        engine="test/1",
        segments=list(segments),
        created_at=datetime(2026, 11, 20, tzinfo=UTC),
    )


_WORDS = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("<>&{}-'\"東京e\u0301"),
    min_size=1,
    max_size=60,
)


@st.composite
def segments(draw, seconds=60):
    """A segment as any engine may give one: words in any order of time, of another text, or none."""
    said = draw(st.lists(_WORDS, min_size=1, max_size=25))
    text = " ".join(said)
    moments = st.integers(0, seconds * SECOND)
    start, end = sorted((draw(moments), draw(moments)))
    kind = draw(st.sampled_from(("words", "glued", "others", "none", "ordered")))
    words = []
    if kind == "ordered":
        times = sorted(draw(st.lists(moments, min_size=2 * len(said), max_size=2 * len(said))))
        words = [[word, times[2 * n], times[2 * n + 1], 0.5] for n, word in enumerate(said)]
    elif kind != "none":
        given_words = list("".join(text.split())) if kind == "glued" else said
        words = [[word, draw(moments), draw(moments), 0.5] for word in given_words[:40]]
        if kind == "others":
            words.append(["more", start, end, 0.5])
    speaker = draw(st.sampled_from((0, AGENT, CUSTOMER, VOICE_1, VOICE_2)))
    return {
        "speaker": speaker,
        "channel": draw(st.integers(0, 1)),
        "start": start,
        "end": end,
        "text": text,
        "words": words,
    }


@st.composite
def transcripts(draw, seconds=60):
    found = draw(st.lists(segments(seconds), max_size=8))
    return transcript(*sorted(found, key=lambda item: item["start"]), seconds=seconds)
