"""Robocalls are one script read a thousand times: a tenant's nearly equal one gets the answer of an earlier one.

How alike two texts are is the Jaccard index of their shingles of three words. It is counted, not estimated: a tenant's
scripts are few, and short, so that comparing all of them takes less than making a MinHash of the new one.
"""

from __future__ import annotations

import json
import re
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from trunkline_runtime.digests import digest

from trunkline_ai.cache.answers import Answer
from trunkline_ai.engines.labels import Intent

LEAST_SIMILARITY = 0.9
LEAST_WORDS, MOST_WORDS = 20, 400
"""Of a text that is compared: a few words are alike by chance, and no script takes minutes to read."""
MOST_SCRIPTS = 2_000
MOST_OF_A_FAMILY = 100
_SHINGLE = 3
_BESIDE = 1_000
"""Bytes that a script takes beside its answer and its shingles."""
_WORD = re.compile(r"[^\W_]++(?:_\d++)?+")
"""A placeholder of personal data, such as `[PHONE_1]`, is one word, and a number."""
# What differs in these is another fact, such as the number to call back: such a text is not the same script.
_NUMBERS = frozenset({
    "zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty",
    "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million", "half",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shingled:
    """The words of a conversation, cut into shingles."""

    family: bytes
    """Texts are compared within one: same tenant, model, prompt, and numbers."""
    shingles: frozenset[int]


def text_of(family: bytes, words: str) -> Shingled | None:
    """Return a text to compare; None for one that is too short or too long to be a script."""
    said = _WORD.findall(words.lower()[: MOST_WORDS * 30])
    if not LEAST_WORDS <= len(said) <= MOST_WORDS:
        return None
    numbers = [word for word in said if word in _NUMBERS or any(letter.isdigit() for letter in word)]
    cut = (" ".join(said[at : at + _SHINGLE]) for at in range(len(said) - _SHINGLE + 1))
    return Shingled(digest(family, *numbers), frozenset(zlib.crc32(one.encode()) for one in cut))


def is_script(answer: str) -> bool:
    """Tell whether an answer says that it was a robocall."""
    told = json.loads(answer)
    return bool(
        isinstance(told, dict)
        and told.get("intent") == Intent.ROBOCALL.value
        and isinstance(told.get("spam_score"), int | float)
        and told["spam_score"] >= 0.5
    )


@dataclass(slots=True)
class _Script:
    tenant: str
    call: str
    shingles: array[int]
    packed: bytes
    until: float

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.packed) + self.shingles.itemsize * len(self.shingles) + _BESIDE


class Scripts:
    """The scripts that this process heard, at most MOST_SCRIPTS, in `most_bytes`. `clock` is of Unix seconds."""

    def __init__(self, most_bytes: int, seconds: float, clock: Callable[[], float]) -> None:
        self.size = 0
        """How many bytes they take, about."""
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._clock = clock
        self._families: OrderedDict[bytes, list[_Script]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, text: Shingled) -> tuple[Answer, float] | None:
        """Return the answer of the most similar script that is similar enough, and how similar it is."""
        best: _Script | None = None
        most = LEAST_SIMILARITY
        now = self._clock()
        for script in self._families.get(text.family, ()):
            if script.until > now and (similarity := _jaccard(script.shingles, text.shingles)) >= most:
                best, most = script, similarity
        if best is None:
            return None
        self._families.move_to_end(text.family)
        return Answer.unpacked(best.packed), most

    def add(self, text: Shingled, tenant: str, call: str, answer: Answer) -> None:
        """Keep the answer to a script; the family that was asked for longest ago makes room."""
        family = self._families.setdefault(text.family, [])
        if len(family) >= MOST_OF_A_FAMILY:
            self._let_go([family.pop(0)])
        until = answer.made_at + self._seconds
        script = _Script(tenant, call, array("I", sorted(text.shingles)), answer.packed(), until)
        family.append(script)
        self._families.move_to_end(text.family)
        self._count += 1
        self.size += script.size
        while self._count > MOST_SCRIPTS or self.size > self._most_bytes:
            self._let_go(self._families.popitem(last=False)[1])

    def forget(self, tenant: str, calls: Collection[str] | None) -> None:
        """Let go of the scripts of these calls of a tenant, or of all that are the tenant's."""
        erased = None if calls is None else set(calls)
        self._keep(lambda one: one.tenant != tenant or (erased is not None and one.call not in erased))

    def expire(self) -> None:
        """Let go of what is over."""
        now = self._clock()
        self._keep(lambda one: one.until > now)

    def _keep(self, stays: Callable[[_Script], bool]) -> None:
        for name in list(self._families):
            left = [one for one in self._families[name] if stays(one)]
            self._let_go([one for one in self._families[name] if not stays(one)])
            if left:
                self._families[name] = left
            else:
                del self._families[name]

    def _let_go(self, gone: list[_Script]) -> None:
        self._count -= len(gone)
        self.size -= sum(one.size for one in gone)


def _jaccard(shingles: array[int], others: frozenset[int]) -> float:
    shorter, longer = sorted((len(shingles), len(others)))
    if shorter < LEAST_SIMILARITY * longer:
        return 0.0
    both = sum(one in others for one in shingles)
    return both / (len(shingles) + len(others) - both)
