"""Who talks how much, and how: sums over the times of a transcript's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline.audio.v1 import audio_features_pb2, transcript_pb2

from trunkline_audio.features.spans import Span, holding, merged, total, touches, without
from trunkline_audio.names import duration, features_name
from trunkline_audio.transcripts.rows import Transcript
from trunkline_audio.transcripts.speakers import VOICES
from trunkline_audio.transcripts.words import Timing

_SECOND = 1_000_000
PAUSE = _SECOND // 2
"""A pause up to this length is part of talking."""
MONOLOGUE_PAUSE = 2 * _SECOND
"""A pause up to this length does not end a monologue."""
_VOICES = frozenset(VOICES) - {transcript_pb2.SPEAKER_UNSPECIFIED}

_Who = tuple[int, int]
"""A speaker and a channel."""


@dataclass(frozen=True, slots=True)
class Activity:
    """When how many talk; microseconds. `overlap` counts time in which three talk twice."""

    silence: int
    longest_silence: int
    overlap: int
    overlaps: int


def audio_features(transcript: Transcript) -> audio_features_pb2.AudioFeatures:
    """Return how the speakers of a transcript talk."""
    talk = turns(transcript)
    whole = sum(total(spans) for spans in talk.values())
    found = activity(list(talk.values()), transcript.duration_us)
    counts = dict.fromkeys(talk, 0)
    for item in transcript.segments:
        counts[_who(item)] += len(item["words"]) or len(item["text"].split())
    message = audio_features_pb2.AudioFeatures(
        name=features_name(transcript.tenant_id, transcript.transcript_id),
        duration=duration(transcript.duration_us),
        silence_duration=duration(found.silence),
        longest_silence_duration=duration(found.longest_silence),
        overlap_duration=duration(found.overlap),
        overlaps=found.overlaps,
        best_effort=_is_best_effort(talk),
    )
    for who in sorted(talk, key=lambda who: talk[who][:1] or [(transcript.duration_us, 0)]):
        mine = talk[who]
        others = merged(span for other, spans in talk.items() if other != who for span in spans)
        seconds = total(mine) / _SECOND
        message.speakers.add(
            speaker=who[0],
            channel=who[1],
            talk_duration=duration(total(mine)),
            talk_ratio=total(mine) / whole if whole else 0.0,
            longest_monologue_duration=duration(longest_monologue(mine, others)),
            interruptions=interruptions(mine, others),
            words=counts[who],
            words_per_minute=round(counts[who] * 60 / seconds, 1) if seconds >= 1 else 0.0,
        )
    return message


def turns(transcript: Transcript) -> dict[_Who, list[Span]]:
    """Return when each speaker talks."""
    said: dict[_Who, list[Span]] = {}
    for item in transcript.segments:
        said.setdefault(_who(item), []).extend(_spans(item, transcript.duration_us))
    return {who: merged(spans, PAUSE) for who, spans in said.items()}


def activity(talk: Sequence[Sequence[Span]], whole: int) -> Activity:
    """Return what is heard of several speakers in a recording of that length."""
    changes = sorted(change for spans in talk for start, end in spans for change in ((start, 1), (end, -1)))
    silence = longest = overlap = overlaps = talking = at = 0
    for moment, change in changes:  # an end comes before a start at the same moment
        if talking == 0:
            silence += moment - at
            longest = max(longest, moment - at)
        overlap += (moment - at) * max(0, talking - 1)
        overlaps += talking == 1 and change == 1
        talking += change
        at = moment
    return Activity(silence + whole - at, max(longest, whole - at), overlap, overlaps)


def longest_monologue(mine: Sequence[Span], others: Sequence[Span]) -> int:
    """Return the longest time in which one talks alone, short pauses included."""
    longest = begin = end = 0
    for start, stop in without(mine, others):
        if end == 0 or start - end > MONOLOGUE_PAUSE or touches(others, end, start):
            begin = start
        end = stop
        longest = max(longest, end - begin)
    return longest


def interruptions(mine: Sequence[Span], others: Sequence[Span]) -> int:
    """Return how often one begins while somebody else talks, and talks on when that one has ended."""
    interrupted = ((holding(others, start), end) for start, end in mine)
    return sum(span is not None and end > span[1] for span, end in interrupted)


def _who(item: Mapping[str, Any]) -> _Who:
    return item["speaker"], item["channel"]


def _spans(item: Mapping[str, Any], whole: int) -> Iterator[Span]:
    for stretch in Timing(item).stretches:
        start, end = max(0, stretch.start), min(whole, stretch.end)
        if start < end:
            yield start, end


def _is_best_effort(talk: Mapping[_Who, Sequence[Span]]) -> bool:
    one_channel = len({channel for _, channel in talk}) == 1
    return any(
        speaker in _VOICES or (one_channel and speaker == transcript_pb2.SPEAKER_UNSPECIFIED)
        for speaker, _ in talk
    )
