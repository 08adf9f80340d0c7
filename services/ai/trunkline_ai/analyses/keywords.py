"""A tenant's tracked keywords in a conversation: exact words, whatever engine analyses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from trunkline.common.v1 import analysis_settings_pb2 as settings_pb2

from trunkline_ai.engines.findings import Mention, Side
from trunkline_ai.engines.quotes import FoldedWord, Script, words_of

_MOST_MENTIONS = 200
"""In all: of more, a keyword that is said often leaves room for those that are said seldom."""
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
    sides: frozenset[Side]


@dataclass(slots=True)
class _Step:
    """A place in the tree of all phrases' words."""

    next: dict[str, _Step] = field(default_factory=dict)
    ends: list[_Phrase] = field(default_factory=list)
    """The phrases that end here."""


def mentions_of(keywords: Sequence[settings_pb2.TrackedKeyword], script: Script) -> tuple[Mention, ...]:
    """Where the phrases were said, in order of place; of a keyword's phrases at one place the longest.

    The words of a phrase stand in one turn, in any case, with any punctuation or none between them. Looking costs the
    words of the conversation, times the words of the longest phrase at most.
    """
    if not keywords:
        return ()
    tree = _tree(keywords)
    words = script.words
    found: list[Mention] = []
    said: Counter[str] = Counter()
    free: dict[str, int] = {}  # from which word on a keyword may be mentioned again
    for at, word in enumerate(words):
        if word.text not in tree.next:
            continue
        side = script.side_at(word.start)
        for end, step, one in reversed(list(_said(tree, words, at))):
            if side in one.sides and free.get(one.keyword, 0) <= at:
                free[one.keyword] = end + 1
                said[one.keyword] += 1
                found.append(Mention(one.keyword, one.phrase, side, script.quote(word.start, words[end].end)))
            if said[one.keyword] >= _MOST_MENTIONS:
                step.ends.remove(one)
    return tuple(_fairly_bounded(found))


def _fairly_bounded(found: list[Mention]) -> list[Mention]:
    """At most so many, in order: each keyword's first, then each one's second, and so on."""
    if len(found) <= _MOST_MENTIONS:
        return found
    said: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for place, one in enumerate(found):
        turns.append((said[one.keyword], place))
        said[one.keyword] += 1
    return [found[place] for place in sorted(place for _, place in sorted(turns)[:_MOST_MENTIONS])]


def _said(tree: _Step, words: Sequence[FoldedWord], at: int) -> Iterator[tuple[int, _Step, _Phrase]]:
    """The phrases that begin at a word, the shortest first, each with its last word and that word's step."""
    step, turn = tree, words[at].turn
    for end in range(at, len(words)):
        following = step.next.get(words[end].text)
        if following is None or words[end].turn != turn:
            return
        step = following
        for one in step.ends:
            yield end, step, one


def _tree(keywords: Sequence[settings_pb2.TrackedKeyword]) -> _Step:
    """All phrases by their words; one without a word is never said."""
    tree = _Step()
    for keyword in keywords:
        for phrase in dict.fromkeys(keyword.phrases):
            step = tree
            for word in words_of(phrase):
                step = step.next.setdefault(word.text, _Step())
            if step is not tree:
                sides = _SIDES.get(keyword.side, frozenset(Side))
                step.ends.append(_Phrase(keyword.name, phrase, sides))
    return tree
