"""Tells whether two channels carry one sound: the same, quieter, turned round, or some milliseconds late."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trunkline_audio.media.preprocess.timeline import RATE

MOST_LATE = RATE // 50
"""20 ms: a network between two recorders is later than that."""
OVERALL = 0.01
"""Two channels are one sound when no more than this part of the energy of one is left without the other (-20 dB)."""
IN_A_BLOCK = 0.05
"""The same of a second: a short word of somebody else is not outweighed by an hour that is the same."""
LEAST_GAIN = 0.3
"""A channel that is softer than this (-10 dB) is not a copy: it may be what leaked from the other one."""
BLOCK = RATE
_QUIET = 1e-5
"""Mean square below which a block says nothing (-50 dB)."""

Floats = NDArray[np.float32]


class Copies:
    """Compares two lanes as they are decoded. How late one is, is found in the first loud second and kept."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Floats, Floats]] = []
        self._count = 0
        self._late: int | None = None
        self._energies = np.zeros(3)
        self._differ = False

    def note(self, first: Floats, second: Floats) -> None:
        """Take the next samples of both, equally many."""
        if self._differ:
            return
        self._waiting.append((first, second))
        self._count += len(first)
        if self._count >= BLOCK + 2 * MOST_LATE:
            self._compare(last=False)

    @property
    def are_one(self) -> bool:
        """Whether all that was taken is one sound; silence on both is."""
        if self._count and not self._differ:
            self._compare(last=True)
        first, second, both = self._energies
        if self._differ:
            return False
        if first == 0.0 or second == 0.0:
            return bool(first == second)
        gain = np.sqrt(second / first)
        return bool(_left(first, second, both) <= OVERALL and LEAST_GAIN <= gain <= 1 / LEAST_GAIN)

    def _compare(self, *, last: bool) -> None:
        lanes = [np.concatenate(lane) for lane in zip(*self._waiting, strict=True)]
        edge = min(MOST_LATE, len(lanes[0]) // 4)
        at = edge
        while at + BLOCK + edge <= len(lanes[0]) or (last and at < len(lanes[0]) - edge):
            end = min(at + BLOCK, len(lanes[0]) - edge)
            self._block(lanes, at, end, edge)
            if self._differ:
                break
            at = end
        # The edges of a block are what the next one is late by.
        self._waiting = [(lanes[0][at - edge :], lanes[1][at - edge :])] if not (last or self._differ) else []
        self._count = sum(len(first) for first, _ in self._waiting)

    def _block(self, lanes: list[Floats], at: int, end: int, edge: int) -> None:
        first = lanes[0][at:end].astype(np.float64)
        loud = max(float(np.square(lane[at:end]).mean()) for lane in lanes) > _QUIET
        late = self._late
        if late is None:
            late = _lateness(first, lanes[1][at - edge : end + edge].astype(np.float64), edge) if loud else 0
        second = lanes[1][at + late : end + late].astype(np.float64)
        energies = np.array([_dot(first, first), _dot(second, second), _dot(first, second)])
        self._energies += energies
        if loud:
            self._late = late
            self._differ = _left(*energies) > IN_A_BLOCK


def _dot(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Not `@`: BLAS would start threads for a second of sound."""
    return float(np.einsum("i,i->", first, second))


def _left(first: float, second: float, both: float) -> float:
    """Return which part of one sound's energy is left when the other, as loud as fits best, is taken away."""
    if first <= 0.0 or second <= 0.0:
        return 1.0
    return 1.0 - both * both / (first * second)


def _lateness(first: NDArray[np.float64], second: NDArray[np.float64], edge: int) -> int:
    """Return how many samples later the second is, -edge to edge; it has `edge` more at both ends."""
    size = 1 << (len(second) - 1).bit_length()
    spectrum = np.conj(np.fft.rfft(first, size)) * np.fft.rfft(second, size)
    likeness = np.abs(np.fft.irfft(spectrum, size)[: 2 * edge + 1])
    return int(likeness.argmax()) - edge
