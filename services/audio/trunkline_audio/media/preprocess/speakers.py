"""Tells two voices apart in one channel, as well as pitch and timbre allow.

Best effort: right for clear pairs of voices, silent otherwise. A wrong label is worse than none, so a
recording whose utterances do not fall into two clear groups has no speakers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from trunkline_audio.media.preprocess.timeline import RATE, SampleRange

WINDOW = 512
HOP = 256
MELS = 24
COEFFICIENTS = 12
LISTEN_SECONDS = 6
"""How much of each utterance is listened to."""

MIN_SILHOUETTE = 0.45
MIN_DISTANCE = 18.0
"""Between the centres of two voices; one voice's own utterances, split in two, lie 7 to 16 apart."""
MIN_SHARE_SECONDS = 0.8
PITCH_WEIGHT = 3.0
MOST_JUDGED = 800
"""Utterances by which two voices are told apart; each of the rest is of the nearer one."""

Floats = NDArray[np.float64]


def voices(lane: BinaryIO, utterances: Sequence[SampleRange]) -> list[int]:
    """A voice for each utterance: 1 for who speaks first, 2 for the other; all 0 when not told apart.

    `lane` holds int16 at 16 kHz. Utterances too short or unvoiced to judge take the voice of the one before.
    """
    heard = [_features(_read(lane, span)) for span in utterances]
    known = [index for index, features in enumerate(heard) if features is not None]
    if len(known) < 2:
        return [0] * len(utterances)
    points = np.stack([features for features in heard if features is not None])
    seconds = np.array([utterances[index].seconds for index in known])
    # Hours of short utterances are judged by some: the distances of all would not fit into memory.
    some = slice(None, None, -(-len(points) // MOST_JUDGED))
    centres = _two_centres(points[some], seconds[some])
    if centres is None:
        return [0] * len(utterances)
    groups = _nearest(points, centres)
    out = [0] * len(utterances)
    for index, group in zip(known, groups, strict=True):
        out[index] = 1 if group == groups[0] else 2
    for index, voice in enumerate(out):
        if voice == 0:
            out[index] = out[index - 1] if index else 1
    return out


def _read(lane: BinaryIO, span: SampleRange) -> Floats:
    lane.seek(span.start * 2)
    samples = min(span.samples, LISTEN_SECONDS * RATE)
    return np.frombuffer(lane.read(samples * 2), "<i2").astype(np.float64)


def _features(samples: Floats) -> Floats | None:
    """Mean cepstrum and median log pitch of the voiced frames; None when there are too few."""
    if len(samples) < WINDOW * 4:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), 2 * WINDOW)) ** 2
    pitch, clarity = _pitch(spectrum)
    energy = spectrum.sum(axis=1)
    voiced = (clarity > 0.45) & (energy > 0.05 * np.percentile(energy, 95))
    if int(voiced.sum()) < 8:
        return None
    logs = np.log(spectrum[voiced] @ _FILTERS.T + 1.0)
    cepstrum = (logs @ _COSINES.T).mean(axis=0)
    return np.concatenate([[PITCH_WEIGHT * 12.0 * float(np.median(np.log2(pitch[voiced])))], cepstrum])


def _pitch(spectrum: Floats) -> tuple[Floats, Floats]:
    """Pitch in Hz between 70 and 350 and how periodic each frame is, from the autocorrelation."""
    # The band of voices: the telephone cuts the fundamental away, its harmonics keep the period.
    band = spectrum.copy()
    band[:, int(1200 * 2 * WINDOW / RATE) :] = 0.0
    correlation = np.fft.irfft(band)[:, :WINDOW]
    # A window of 32 ms holds few long periods: undo the taper that the window itself puts on long lags.
    taper = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(WINDOW), 2 * WINDOW)) ** 2)[:WINDOW]
    normal = correlation / np.maximum(correlation[:, :1], 1e-9) / np.maximum(taper / taper[0], 0.05)
    low, high = RATE // 350, RATE // 70
    lags = normal[:, low:high]
    best = lags.argmax(axis=1)
    return RATE / (best + low), lags[np.arange(len(lags)), best]


def _two_centres(points: Floats, seconds: Floats) -> Floats | None:
    """Two-means from the farthest pair: both centres, or None when the groups are not clear or one is too short."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    first, second = np.unravel_index(int(distances.argmax()), distances.shape)
    centres = points[[first, second]]
    groups = np.zeros(len(points), np.int64)
    for _ in range(20):
        groups = _nearest(points, centres)
        if len(set(groups.tolist())) < 2:
            return None
        centres = np.stack(
            [np.average(points[groups == g], axis=0, weights=seconds[groups == g]) for g in (0, 1)]
        )
    if min(seconds[groups == g].sum() for g in (0, 1)) < MIN_SHARE_SECONDS:
        return None
    clear = np.linalg.norm(centres[0] - centres[1]) >= MIN_DISTANCE
    return centres if clear and _silhouette(distances, groups) >= MIN_SILHOUETTE else None


def _nearest(points: Floats, centres: Floats) -> NDArray[np.int64]:
    return np.asarray(np.linalg.norm(points[:, None] - centres[None], axis=2).argmin(axis=1))


def _silhouette(distances: Floats, groups: NDArray[np.int64]) -> float:
    scores = []
    for index in range(len(groups)):
        same = groups == groups[index]
        within = distances[index][same].sum() / max(1, int(same.sum()) - 1)
        between = distances[index][~same].mean()
        scores.append((between - within) / max(within, between, 1e-9))
    return float(np.mean(scores))


def _mel(hertz: Floats | float) -> Floats:
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0))


def _filters() -> Floats:
    """Triangular mel filters over the telephone band, (MELS, bins)."""
    edges_mel = np.linspace(_mel(250.0), _mel(3400.0), MELS + 2)
    edges = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    bins = np.linspace(0, RATE / 2, WINDOW + 1)
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rising, falling))


_FILTERS = _filters()
_COSINES = np.cos(np.pi / MELS * (np.arange(MELS) + 0.5)[None] * np.arange(1, COEFFICIENTS + 1)[:, None])
