"""Packs a lane's utterances into the windows that an engine listens to, and puts its words back in their places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trunkline_audio.media.prepared import Utterance
from trunkline_audio.media.preprocess.timeline import RATE

EVEN_SECONDS = 0.5
"""How exactly windows are evened out."""
GAP_SECONDS = 0.2
"""Silence after each utterance of a window, beside what speech detection leaves around speech."""

Times = tuple[float, float]
"""Begin and end in seconds."""
Heard = tuple[str, float, float, float | None]
"""A word: text, begin, end, and how sure the engine is of it."""


@dataclass(frozen=True)
class Window:
    """Utterances of one lane that are listened to in one go, in order of time."""

    lane: int
    utterances: tuple[Utterance, ...]

    @property
    def seconds(self) -> float:
        """Length with its gaps, in seconds."""
        return sum(_seconds(item) + GAP_SECONDS for item in self.utterances)

    def halves(self) -> tuple[Window, Window]:
        """Two windows of half the utterances each; there must be two at least."""
        middle = len(self.utterances) // 2
        return Window(self.lane, self.utterances[:middle]), Window(self.lane, self.utterances[middle:])


def packed(utterances: Sequence[Utterance], longest_seconds: float) -> list[Window]:
    """As few windows as hold all utterances in their order, as equal in length as can be, so that lanes end together.

    A window is at most `longest_seconds` long, gaps included. No utterance is cut: each must be shorter than that.
    """
    out: list[Window] = []
    for lane in sorted({item.lane for item in utterances}):
        mine = sorted((item for item in utterances if item.lane == lane), key=lambda item: item.start)
        fewest = _filled(lane, mine, longest_seconds)
        low, high = sum(window.seconds for window in fewest) / len(fewest), longest_seconds
        while high - low > EVEN_SECONDS:
            middle = (low + high) / 2
            if len(tried := _filled(lane, mine, middle)) == len(fewest):
                fewest, high = tried, middle
            else:
                low = middle
        out += fewest
    return out


def _filled(lane: int, utterances: Sequence[Utterance], most: float) -> list[Window]:
    """Windows filled one after the other with up to `most` seconds each, or with one longer utterance."""
    out: list[Window] = []
    held: list[Utterance] = []
    length = 0.0
    for item in utterances:
        seconds = _seconds(item) + GAP_SECONDS
        if held and length + seconds > most:
            out.append(Window(lane, tuple(held)))
            held, length = [], 0.0
        held.append(item)
        length += seconds
    return [*out, Window(lane, tuple(held))]


def places(spans: Sequence[Times]) -> list[Times]:
    """Where utterances of the recording, in seconds, lie within their window."""
    out: list[Times] = []
    clock = 0.0
    for start, end in spans:
        out.append((clock, clock + end - start))
        clock += end - start + GAP_SECONDS
    return out


def samples(path: Path, spans: Sequence[tuple[int, int]]) -> NDArray[np.int16]:
    """The samples of some spans of a lane's file, one after the other, with a gap after each."""
    gap = np.zeros(round(GAP_SECONDS * RATE), np.int16)
    parts: list[NDArray[np.int16]] = []
    with path.open("rb") as lane:
        for start, end in spans:
            lane.seek(start * 2)
            parts += [np.frombuffer(lane.read((end - start) * 2), "<i2").astype(np.int16, copy=False), gap]
    return np.concatenate(parts)


def in_place(words: Sequence[Heard], spans: Sequence[tuple[int, int]]) -> list[list[Heard]]:
    """Words of a window as words of each of its utterances, in the recording's time, never outside their utterance.

    `spans` are the utterances, in samples.
    """
    begun = [(start / RATE, end / RATE) for start, end in spans]
    spots = places(begun)
    owners = attributed([(text, start, end) for text, start, end, _ in words], spots)
    out: list[list[Heard]] = [[] for _ in spans]
    for (text, start, end, sure), owner in zip(words, owners, strict=True):
        (first, last), (offset, _) = begun[owner], spots[owner]
        begins = min(max(first, first + start - offset), last)
        ends = min(max(begins, first + end - offset), last)
        out[owner].append((text, round(begins, 3), round(ends, 3), sure))
    return out


def attributed(words: Sequence[tuple[str, float, float]], spots: Sequence[Times]) -> list[int]:
    """The utterance that each word belongs to, by its index; never falling from one word to the next.

    `words` are (text, start, end) and `spots` the utterances, both in seconds of the window. Whisper's times are
    rough beside a pause: a word after it seems to begin before it. So this takes the cheapest of all ways to
    deal the words out, where a second outside the utterance costs one, and going on to the next utterance costs
    nothing after a full stop, a little after a comma and most of a second inside a clause.
    """
    if not words:
        return []
    outside = np.array([[_outside(start, end, *spot) for spot in spots] for _, start, end in words])
    cost = np.empty_like(outside)
    came_from = np.zeros(outside.shape, np.int64)
    cost[0] = outside[0]
    for index, ((before, _, _), _) in enumerate(pairwise(words), 1):
        going_on = _going_on(before)
        best, best_from = math.inf, 0  # the cheapest way to be in any earlier utterance
        for spot in range(len(spots)):
            stay = cost[index - 1][spot]
            came_from[index][spot] = spot if stay <= best + going_on else best_from
            cost[index][spot] = min(stay, best + going_on) + outside[index][spot]
            if stay < best:
                best, best_from = stay, spot
    spot = int(np.argmin(cost[-1]))
    out = [spot]
    for index in range(len(words) - 1, 0, -1):
        spot = int(came_from[index][spot])
        out.append(spot)
    return out[::-1]


def _outside(start: float, end: float, begin: float, until: float) -> float:
    """What placing a word in an utterance costs: little for reaching out of it, much for lying beside it."""
    reaching = max(0.0, begin - start) + max(0.0, end - until)
    beside = max(0.0, start - until) + max(0.0, begin - end)
    return 0.5 * reaching + 2.0 * beside


def _going_on(word: str) -> float:
    last = word.rstrip()[-1:]
    if last in ".?!。？！":
        return 0.0
    return 0.15 if last in ",;:、" else 0.6


def _seconds(item: Utterance) -> float:
    return (item.end - item.start) / RATE
