"""Finds words and phrases in one transcript, in time that grows with its length alone."""

from __future__ import annotations

import html
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_runtime.api.paging import Place
from trunkline_runtime.errors import InvalidArgument

from trunkline_audio.names import duration
from trunkline_audio.transcripts.rows import Transcript
from trunkline_audio.transcripts.words import Timing

MOST_TERMS = 16
AROUND = 60
"""Characters of a segment that a snippet shows on each side of what was found."""
_QUOTES = str.maketrans("“”„‟«»", '""""""')
_APOSTROPHES = "'’ʼ"


@dataclass(frozen=True, slots=True)
class Match:
    """What was found: characters `first` to `last` (exclusive) of a segment's text; times in microseconds."""

    segment: int
    first: int
    last: int
    start: int
    end: int
    snippet: str
    """HTML: the text around it, escaped, and it inside <mark>."""


class Query:
    """What is looked for: words, and phrases in double quotes. Raises InvalidArgument("query").

    A word is found at the beginning of words, a phrase as whole words in its order, both in any case and with any
    accents. An ideograph or a kana is a word of its own.
    """

    def __init__(self, text: str) -> None:
        parts = text.translate(_QUOTES).split('"')
        if len(parts) % 2 == 0:
            raise InvalidArgument("query", "has a quotation mark without its second")
        terms: dict[str, None] = {}
        for number, part in enumerate(parts):
            wanted = [part] if number % 2 else part.split()
            for one in wanted:
                words = " ".join(word for word, _, _ in _words(one))
                if words:
                    terms[f" {words} " if number % 2 else f" {words}"] = None
        if not terms:
            raise InvalidArgument("query", "must hold a word to look for")
        if len(terms) > MOST_TERMS:
            raise InvalidArgument("query", f"must hold at most {MOST_TERMS} words and phrases")
        self._terms = tuple(terms)

    def matches(self, transcript: Transcript) -> Iterator[Match]:
        """Yield what is found, in order of the segments; what overlaps is one match."""
        for number, segment in enumerate(transcript.segments):
            spans = self._spans(segment["text"])
            if spans:
                yield from _matches(number, segment, spans)

    def _spans(self, text: str) -> list[tuple[int, int]]:
        words = list(_words(text))
        folded = f" {' '.join(word for word, _, _ in words)} "
        begins: list[int] = []
        place = 1
        for word, _, _ in words:
            begins.append(place)
            place += len(word) + 1
        found = sorted(
            (words[first][1], words[last][2])
            for term in self._terms
            for first, last in _occurrences(term, folded, begins)
        )
        merged: list[tuple[int, int]] = []
        for begin, end in found:
            if merged and begin < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((begin, end))
        return merged


def page_of(query: Query, transcript: Transcript, place: Place) -> pb.SearchTranscriptResponse:
    """Return a page of what is found, and the next page's token. Raises InvalidArgument("page_token")."""
    key = place.after((int, int))
    behind = (-1, -1) if key is None else key
    left = (match for match in query.matches(transcript) if (match.segment, match.first) > behind)
    found = list(islice(left, place.size + 1))
    response = pb.SearchTranscriptResponse()
    for match in found[: place.size]:
        response.matches.add(
            segment=match.segment,
            speaker=transcript.segments[match.segment]["speaker"],
            text_offset=match.first,
            text_length=match.last - match.first,
            start_offset=duration(match.start),
            end_offset=duration(match.end),
            snippet=match.snippet,
        )
    if len(found) > place.size:
        last = found[place.size - 1]
        response.next_page_token = place.next((last.segment, last.first))
    return response


def _occurrences(term: str, folded: str, begins: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last word of each place where a term is."""
    count = term.strip().count(" ")
    place = folded.find(term)
    while place >= 0:
        first = bisect_right(begins, place + 1) - 1
        yield first, first + count
        place = folded.find(term, place + 1)


def _matches(number: int, segment: Mapping[str, Any], spans: Sequence[tuple[int, int]]) -> Iterator[Match]:
    text: str = segment["text"]
    timing = Timing(segment)
    for first, last in spans:
        yield Match(number, first, last, timing.start(first), timing.end(last), _snippet(text, first, last))


def _snippet(text: str, first: int, last: int) -> str:
    begin, end = max(0, first - AROUND), min(len(text), last + AROUND)
    before, after = text[begin:first], text[last:end]
    if begin and " " in before:  # words are not cut
        before = before.partition(" ")[2]
    if end < len(text) and " " in after:
        after = after.rpartition(" ")[0]
    escaped = [html.escape(part) for part in (before, text[first:last], after)]
    left, right = "…" if begin else "", "…" if end < len(text) else ""
    return f"{left}{escaped[0]}<mark>{escaped[1]}</mark>{escaped[2]}{right}"


def _words(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the words of a text as they are compared, each with where it begins and ends in it."""
    word: list[str] = []
    begin = end = 0
    for place, character in enumerate(text):
        folded = _folded(character)
        if not folded and _is_passed_over(character):
            if word and character not in _APOSTROPHES:
                end = place + 1  # an accent is of the letter before it
            continue
        alone = bool(folded) and _stands_alone(character)
        if word and (not folded or alone):
            yield "".join(word), begin, end
            word = []
        if folded:
            begin = begin if word else place
            word.append(folded)
            end = place + 1
        if alone:
            yield folded, place, place + 1
            word = []
    if word:
        yield "".join(word), begin, end


@lru_cache(maxsize=4_096)
def _folded(character: str) -> str:
    """Return a character without case and accents; empty for one that is no part of a word."""
    plain = unicodedata.normalize("NFKD", character.casefold())
    return "".join(one for one in plain.casefold() if one.isalnum())


def _is_passed_over(character: str) -> bool:
    """Say whether a character that is no part of a word does not end one either: a mark, or one without a shape."""
    category = unicodedata.category(character)
    return character in _APOSTROPHES or category[0] == "M" or category == "Cf"


def _stands_alone(character: str) -> bool:
    """Say whether a character is of a script that has no spaces between words."""
    return "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff" or character >= "\U00020000"
