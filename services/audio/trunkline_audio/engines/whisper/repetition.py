"""Cuts what a language model repeats when it runs in circles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T", bound=Sequence[object])

LONGEST_PHRASE = 12
MOST_TIMES = {1: 4, 2: 3}
"""How often a phrase of one or two words may follow itself, as people do say "no, no, no, no"."""
MOST_TIMES_LONGER = 2


def without_loops(words: Sequence[T]) -> list[T]:
    """The words, with each phrase that follows itself too often left in once.

    A word's text is its first item; letters' case and punctuation do not count.
    """
    texts = ["".join(c for c in str(word[0]).lower() if c.isalnum()) for word in words]
    kept: list[T] = []
    index = 0
    while index < len(words):
        length, times = _loop(texts, index)
        if times:
            kept += words[index : index + length]
            index += length * times
        else:
            kept.append(words[index])
            index += 1
    return kept


def _loop(texts: Sequence[str], index: int) -> tuple[int, int]:
    """The shortest phrase at `index` that follows itself too often: its length and how often; else (0, 0)."""
    for length in range(1, LONGEST_PHRASE + 1):
        phrase = texts[index : index + length]
        if len(phrase) < length:
            break
        times = 1
        while texts[index + times * length : index + (times + 1) * length] == phrase:
            times += 1
        if times > MOST_TIMES.get(length, MOST_TIMES_LONGER):
            return length, times
    return 0, 0
