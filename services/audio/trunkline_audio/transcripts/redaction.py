"""Transcripts as they are stored for a tenant that wants no personal data in them: placeholders stand in its place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trunkline.audio.v1 import transcript_pb2
from trunkline_words.personal.policy import PiiKind

from trunkline_audio.transcripts.words import places_of

_Found = list[tuple[int, int, str]]
"""Characters `first` to `last` (exclusive) of a segment's text, and the placeholder that takes their place."""


@dataclass(slots=True)
class _SpokenTurn:
    """Neighbouring segments of one speaker: what is said across the pause between them is found too."""

    role: str
    text: str = ""
    segments: list[tuple[int, int]] = field(default_factory=list)
    """The number of each, and where its text begins."""


def redacted(segments: Sequence[Mapping[str, Any]], kinds: Collection[PiiKind]) -> list[dict[str, Any]]:
    """Return segments, as they are stored, with placeholders in texts and words.

    A placeholder is one word, from the beginning of the first word that it replaces to the end of the last one. Words
    that are not those of their segment's text are left out, because they may tell what the text no longer tells.

    It takes some 20 ms for a thousand words: call it in a thread.
    """
    # The finders read lists of words, which a service without such a tenant never needs.
    from trunkline_words.personal.placeholders import Redaction  # noqa: PLC0415

    turns = _turns(segments)
    found: dict[int, _Found] = {}
    for place, placeholder in Redaction(turns, kinds).places:
        for number, begin in turns[place.turn].segments:
            first = max(0, place.start - begin)
            last = min(len(segments[number]["text"]), place.end - begin)
            if first < last:
                found.setdefault(number, []).append((first, last, placeholder))
    return [_replaced(item, found.get(number, [])) for number, item in enumerate(segments)]


def _turns(segments: Sequence[Mapping[str, Any]]) -> list[_SpokenTurn]:
    turns: list[_SpokenTurn] = []
    for number, item in enumerate(segments):
        role = f"{item['speaker']} {item['channel']}"
        known = item["speaker"] != transcript_pb2.SPEAKER_UNSPECIFIED
        if not (turns and known and turns[-1].role == role):
            turns.append(_SpokenTurn(role))
        turn = turns[-1]
        if turn.segments:
            turn.text += " "
        turn.segments.append((number, len(turn.text)))
        turn.text += item["text"]
    return turns


def _replaced(segment: Mapping[str, Any], found: _Found) -> dict[str, Any]:
    places = places_of(segment)
    if places is None:
        words: list[list[Any]] = []
    else:
        words = list(_words(segment, places, found)) if found else segment["words"]
    return {**segment, "text": _shown(segment["text"], 0, len(segment["text"]), found), "words": words}


def _shown(text: str, first: int, last: int, found: Sequence[tuple[int, int, str]]) -> str:
    """Return the text from `first` to `last` with placeholders."""
    pieces = []
    for begin, end, placeholder in found:
        pieces += [text[first:begin], placeholder]
        first = end
    return "".join((*pieces, text[first:last]))


def _words(segment: Mapping[str, Any], places: list[tuple[int, int]], found: _Found) -> Iterator[list[Any]]:
    """Give the words of a segment; those that a placeholder replaces, or parts of which it does, are one."""
    said = [word for word in segment["words"] if word[0].strip()]
    at = nearest = 0
    while at < len(said):
        first, last = places[at]
        behind = at + 1
        while nearest < len(found) and found[nearest][1] <= first:
            nearest += 1
        further = nearest
        while further < len(found) and found[further][0] < last:
            while behind < len(said) and places[behind][0] < found[further][1]:
                behind += 1
            last = places[behind - 1][1]
            further += 1
        if further == nearest:
            yield said[at]
        else:
            text = _shown(segment["text"], first, last, found[nearest:further])
            yield [text, said[at][1], said[behind - 1][2], min(word[3] for word in said[at:behind])]
        at = behind
