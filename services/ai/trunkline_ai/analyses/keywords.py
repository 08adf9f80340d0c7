"""A tenant's tracked keywords in a conversation: exact words, whatever engine analyses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trunkline.common.v1 import analysis_settings_pb2 as settings_pb2

from trunkline_ai.engines.findings import Mention, Side
from trunkline_ai.engines.quotes import Script, Word, words_of

_MOST_MENTIONS = 200
_SIDES: Mapping[int, frozenset[Side]] = {
    settings_pb2.KEYWORD_SIDE_UNSPECIFIED: frozenset(Side),
    settings_pb2.KEYWORD_SIDE_AGENT: frozenset({Side.AGENT, Side.UNKNOWN}),
    settings_pb2.KEYWORD_SIDE_CUSTOMER: frozenset({Side.CUSTOMER, Side.UNKNOWN}),
}
"""Words of voices that were not told apart count for every side."""


@dataclass(frozen=True, slots=True)
class _Phrase:
    keyword: str
    phrase: str
    words: tuple[str, ...]
    sides: frozenset[Side]


def mentions_of(keywords: Sequence[settings_pb2.TrackedKeyword], script: Script) -> tuple[Mention, ...]:
    """Where the phrases were said, in order of place; of a keyword's phrases at one place the longest.

    The words of a phrase stand in one turn, in any case, with any punctuation or none between them. Looking costs the
    words of the conversation, times the phrases that begin with the same word.
    """
    if not keywords:
        return ()
    by_first = _by_first(keywords)
    words = script.words
    found: list[Mention] = []
    taken: dict[str, int] = {}  # until which word a keyword's last phrase goes
    for at, word in enumerate(words):
        candidates = by_first.get(word.text)
        if candidates is None:
            continue
        side = script.side_at(word.start)
        for one in candidates:
            size = len(one.words)
            if taken.get(one.keyword, 0) > at or side not in one.sides:
                continue
            said = words[at : at + size]
            if len(said) == size and said[-1].turn == word.turn and _same(said, one.words):
                taken[one.keyword] = at + size
                quote = script.quote(word.start, said[-1].end)
                found.append(Mention(one.keyword, one.phrase, side, quote))
        if len(found) >= _MOST_MENTIONS:
            break
    return tuple(found[:_MOST_MENTIONS])


def _same(said: Iterable[Word], wanted: tuple[str, ...]) -> bool:
    return all(word.text == text for word, text in zip(said, wanted, strict=True))


def _by_first(keywords: Sequence[settings_pb2.TrackedKeyword]) -> dict[str, list[_Phrase]]:
    """The phrases by their first word, the longest first; one without a word is never said."""
    by_first: dict[str, list[_Phrase]] = {}
    for keyword in keywords:
        for phrase in dict.fromkeys(keyword.phrases):
            words = tuple(word.text for word in words_of(phrase))
            if words:
                one = _Phrase(keyword.name, phrase, words, _SIDES.get(keyword.side, frozenset(Side)))
                by_first.setdefault(words[0], []).append(one)
    for phrases in by_first.values():
        phrases.sort(key=lambda one: -len(one.words))
    return by_first
