"""Bringing what recognisers and people write into one canonical form, and cutting it into sentences."""

import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise

from trunkline_words import numbers
from trunkline_words.personal.policy import PLACEHOLDER, PiiKind, kind_of
from trunkline_words.written import CONTRACTIONS, Places, straightened

_FILLERS = frozenset({"uh", "um", "er", "erm", "hmm", "hm", "ah", "mm", "mhm", "uhm", "ugh"})
_UNSEEN = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u00ad]++")
"""Marks of no width and of direction: no borders of words."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
_WORDS_WITHOUT_APOSTROPHE = {
    "we're": "we are", "we'll": "we will", "we'd": "we would", "he'll": "he will", "she'll": "she will",
    "she'd": "she would",
}  # fmt: skip
"""Contractions that are other words without their apostrophe, so that only the apostrophe tells them."""
_TOLD_BY_APOSTROPHE = re.compile(rf"\b(?:{'|'.join(_WORDS_WITHOUT_APOSTROPHE)})\b")
_DOTTED = re.compile(r"\b([a-z])\.(?:\s?([a-z])\.)+")
_GROUPED_DIGITS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_MONEY = re.compile(r"\$\s?(\d+)(?:\.\d+)?")
_SMALL_NUMBER = re.compile(r"\b(?:0|[1-9]\d?)\b")
_NOT_WORD = re.compile(r"[^a-z0-9ñáéíóú]+")
_SENTENCE_END = re.compile(
    # Neither a title's point nor that of p.m. ends a sentence.
    r"(?<=[.!?])(?<!\b[MDS][rst]\.)(?<!\bMrs\.)(?<!\b[ap]\.m\.)\s+(?=[\"'“‘A-Z0-9¿¡])|\n+"
)
_UNBROKEN = re.compile(r"\S++")
_YOU_ALL = re.compile(r"\byou (?:guys|all|folks)\b")
_UNPUNCTUATED_CHUNK = 24
"""Words: a recogniser's turn without punctuation is cut at about this length."""
_ACROSS = re.compile(r"\.\s[a-z]\.|\$\s")
"""What is read together across a space: `p. m.` and `$ 5`."""
_LINE_END = re.compile(r"\n")
_PLACEHOLDER = re.compile(PLACEHOLDER)
_STAND_INS = {
    PiiKind.CARD: "4242424242424242", PiiKind.SSN: "219099999", PiiKind.EMAIL: "john@example.com",
    PiiKind.PHONE: "5550123", PiiKind.BIRTH_DATE: "May 17, 1988", PiiKind.ADDRESS: "25 Main Street",
    PiiKind.NAME: "John",
}  # fmt: skip
"""What rules and model read where a transcript has a placeholder: a wording that says as little as any other."""
_LONGEST_WORD = 24
_WORDS_KEPT = 4_096
_LONGEST_SENTENCE = 200
_SENTENCES_KEPT = 512
_TURNS_KEPT = 128
"""Turns: one analysis cuts each several times."""


class Spoken(str):
    """Text in canonical form: words with a space or a line's end between them."""

    @cached_property
    def begun(self) -> dict[object, Mapping[int, list[int] | None]]:
        """Where cues may begin, by their table, which writes it down here."""
        return {}

    @cached_property
    def places(self) -> Places:
        """Where each of its words begins."""
        places: defaultdict[str, list[int]] = defaultdict(list)
        for word, at in zip(*self._words, strict=True):
            places[word].append(at)
        return _kept(places)

    @cached_property
    def pairs(self) -> Places:
        """Where two words begin of which one follows the other, be it in the next line."""
        words, starts = self._words
        pairs: defaultdict[str, list[int]] = defaultdict(list)
        for pair, at in zip(map(" ".join, pairwise(words)), starts, strict=False):
            pairs[pair].append(at)
        return _kept(pairs)

    @cached_property
    def _words(self) -> tuple[list[str], list[int]]:
        """Its words, and where each begins."""
        words = self.replace("\n", " ").split(" ")
        ends = accumulate(len(word) + 1 for word in words)
        return words, [0, *ends][:-1]

    def line_at(self, place: int) -> int:
        """The number of the line that a place is in."""
        return bisect_right(self._line_starts, place) - 1

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(found.end() for found in _LINE_END.finditer(self))]


def _kept(places: Mapping[str, list[int]]) -> Places:
    """In tuples, which the garbage collector doesn't look at: thousands of lists would make it look at everything."""
    return {word: tuple(where) for word, where in places.items()}


def shown(text: str) -> str:
    """The text as it may stand among others: without control characters and marks of direction."""
    return _CONTROL.sub("", text)


def canonical(text: str) -> Spoken:
    """Lower case, no punctuation, contractions spelt out, fillers dropped, `you guys` folded to `you`.

    Numbers up to 99 are words and sums of money have dollars behind them, as they are spoken: `9 o'clock` is
    `nine oclock`, `$2,000` is `2000 dollars`. A placeholder such as `[NAME_1]` is read as something of its kind.
    """
    return _of_sentence(text) if len(text) <= _LONGEST_SENTENCE else _canonical(text)


@lru_cache(_SENTENCES_KEPT)
def _of_sentence(text: str) -> Spoken:
    """Most turns are one sentence, and each is read as both."""
    return _canonical(text)


def _canonical(text: str) -> Spoken:
    plain = straightened(text)
    if "[" in plain:
        plain = _PLACEHOLDER.sub(lambda found: _STAND_INS[kind_of(found.group())], plain)
    if not plain.isascii():
        plain = unicodedata.normalize("NFC", _UNSEEN.sub("", plain))
    lowered = plain.lower()
    if _ACROSS.search(lowered):
        spelt_out = _spelt_out(lowered)
    else:
        words = [_word(word) if len(word) <= _LONGEST_WORD else _spelt_out(word) for word in lowered.split()]
        spelt_out = " ".join([word for word in words if word])
    return Spoken(_YOU_ALL.sub("you", spelt_out))


@lru_cache(_WORDS_KEPT)
def _word(lowered: str) -> str:
    """Most words of a conversation were said before."""
    return _spelt_out(lowered)


def _spelt_out(lowered: str) -> str:
    lowered = _TOLD_BY_APOSTROPHE.sub(lambda found: _WORDS_WITHOUT_APOSTROPHE[found.group()], lowered)
    lowered = _GROUPED_DIGITS.sub("", _DOTTED.sub(lambda found: found.group().replace(".", ""), lowered))
    lowered = _MONEY.sub(r" \1 dollars ", lowered.replace("'", ""))
    lowered = _SMALL_NUMBER.sub(lambda found: numbers.spelt(int(found.group())), lowered)
    words = _NOT_WORD.sub(" ", lowered).split()
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _FILLERS)


def sentences(text: str) -> list[str]:
    """The sentences of a turn; one without punctuation is cut into chunks of about two dozen words."""
    return [" ".join(text[start:end].split()) for start, end in sentence_spans(text)]


@lru_cache(_TURNS_KEPT)
def sentence_spans(text: str) -> tuple[tuple[int, int], ...]:
    """Where the sentences of a turn begin and end."""
    spans: list[tuple[int, int]] = []
    begun = 0
    ends = [(found.start(), found.end()) for found in _SENTENCE_END.finditer(text)]
    for end, next_begins in [*ends, (len(text), len(text))]:
        words = [found.span() for found in _UNBROKEN.finditer(text, begun, end)]
        begun = next_begins
        chunk = len(words) if len(words) <= 2 * _UNPUNCTUATED_CHUNK else _UNPUNCTUATED_CHUNK
        for start in range(0, len(words), chunk or 1):
            spans.append((words[start][0], words[start : start + chunk][-1][1]))
    return tuple(spans)
