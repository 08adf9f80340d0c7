"""Takes from a channel the speech that only leaked into it from the other one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAK_DB = 12.0
SMOOTH_FRAMES = 7

Scores = NDArray[np.float32]


def without_leaks(scores: list[Scores], energies: list[Scores]) -> list[Scores]:
    """Scores of two channels, zeroed where the other channel is louder by `LEAK_DB` and speaks itself.

    `energies` holds the mean square of each frame. Loudness is smoothed over a quarter of a second, so that a
    short word of one speaker under the other's long sentence is kept.
    """
    if len(scores) != 2:
        return scores
    kernel = np.ones(SMOOTH_FRAMES, np.float32) / SMOOTH_FRAMES
    loudness = [10.0 * np.log10(np.convolve(energy, kernel, mode="same") + 1e-3) for energy in energies]
    out: list[Scores] = []
    for this, other in ((0, 1), (1, 0)):
        leaked = (loudness[other] - loudness[this] > LEAK_DB) & (scores[other] > 0.3)
        out.append(np.where(leaked, 0.0, scores[this]).astype(np.float32))
    return out
