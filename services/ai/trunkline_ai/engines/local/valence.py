"""What VADER makes of a sentence: its own arithmetic, over words that are cut and lowered once.

The library lowers the whole sentence again for each word that has a valence, several times. What is rare is left to
it: letters beyond ASCII, which may be emoji, and idioms.
"""

import math
import string
from collections.abc import Mapping

from vaderSentiment import vaderSentiment as vader

_NEGATIONS = frozenset(vader.NEGATE)
_IDIOMS = tuple(phrase for phrase in (*vader.SPECIAL_CASES, *vader.BOOSTER_DICT) if " " in phrase)
_DAMPED = (1.0, 0.95, 0.9)
"""How much a word counts that stands one, two, or three words before the one that has a valence."""
_ALPHA = 15
_MOST_EXCLAMATIONS, _EXCLAMATION = 4, 0.292
_MOST_QUESTIONS, _QUESTION, _MANY_QUESTIONS = 3, 0.18, 0.96


class Valences:
    """Scores sentences by the library's lexicon, in which `overrides` replace and add words (-4 to 4)."""

    def __init__(self, overrides: Mapping[str, float]) -> None:
        self._library = vader.SentimentIntensityAnalyzer()
        self._library.lexicon.update(overrides)
        self._lexicon: dict[str, float] = self._library.lexicon

    def compound(self, sentence: str) -> float:
        """The library's compound score, -1 to 1."""
        said = [_bare(word) for word in sentence.split()]
        words = [word.lower() for word in said]
        line = " ".join(words)
        if not sentence.isascii() or any(idiom in line for idiom in _IDIOMS):
            return float(self._library.polarity_scores(sentence)["compound"])
        if self._lexicon.keys().isdisjoint(words):
            return 0.0
        loud = 0 < sum(map(str.isupper, said)) < len(said)
        valences = [
            self._valence(said, words, at, loud=loud)
            if word in self._lexicon and word not in vader.BOOSTER_DICT
            else 0.0
            for at, word in enumerate(words)
        ]
        if "but" in words:
            _turn(valences, words.index("but"))
        total = float(sum(valences))
        if total:
            total += math.copysign(_emphasis(sentence), total)
        return round(max(-1.0, min(1.0, total / math.sqrt(total * total + _ALPHA))), 4)

    def _valence(self, said: list[str], words: list[str], at: int, *, loud: bool) -> float:
        """What the word at a place counts, with what the words before it make of it.

        `loud`: some words of the sentence, and not all, are in capitals.
        """
        lexicon = self._lexicon
        before = [words[at - back] if at >= back else "" for back in (1, 2, 3)]
        valence = lexicon[words[at]]
        if words[at] == "no" and at + 1 < len(words) and words[at + 1] in lexicon:
            valence = 0.0
        if "no" in before[:2] or (before[2] == "no" and before[0] in ("or", "nor")):
            valence = lexicon[words[at]] * vader.N_SCALAR
        if loud and said[at].isupper():
            valence += vader.C_INCR if valence > 0 else -vader.C_INCR
        for back, damped in enumerate(_DAMPED, 1):
            if at >= back and before[back - 1] not in lexicon:
                boost = vader.scalar_inc_dec(said[at - back], valence, loud)
                valence = _negated(valence + boost * damped, before, back)
        if before[0] == "least" and "least" not in lexicon and before[1] not in ("at", "very"):
            valence *= vader.N_SCALAR
        return valence


def _bare(token: str) -> str:
    """A word without the marks around it; what has hardly a letter may be an emoticon."""
    bare = token.strip(string.punctuation)
    return bare if len(bare) > 2 else token


def _negated(valence: float, before: list[str], back: int) -> float:
    """The valence after the word so many words before it was looked at for a negation."""
    first, second, third = before
    if back == 2 and second == "never" and first in ("so", "this"):
        return valence * 1.25
    if back == 3 and ((third == "never" and second in ("so", "this")) or first in ("so", "this")):
        return valence * 1.25
    if back == 2 and second == "without" and first == "doubt":
        return valence
    if back == 3 and third == "without" and "doubt" in (first, second):
        return valence
    word = before[back - 1]
    return valence * vader.N_SCALAR if word in _NEGATIONS or "n't" in word else valence


def _turn(valences: list[float], but: int) -> None:
    """What stands before a `but` counts less, what stands behind it more.

    As in the library, equal valences are told apart by the first place where they stand.
    """
    for valence in valences:
        place = valences.index(valence)
        if place != but:
            valences[place] = valence * (0.5 if place < but else 1.5)


def _emphasis(sentence: str) -> float:
    questions = sentence.count("?")
    asked = _QUESTION * questions if questions <= _MOST_QUESTIONS else _MANY_QUESTIONS
    return min(_MOST_EXCLAMATIONS, sentence.count("!")) * _EXCLAMATION + (asked if questions > 1 else 0)
