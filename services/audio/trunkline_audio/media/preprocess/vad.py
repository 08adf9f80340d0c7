"""Where people speak: Silero's voice activity model over 16 kHz audio, without speech that leaked between channels."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_audio.media.preprocess.timeline import RATE, SampleRange, merged, padded

FRAME = 512
CONTEXT = 64
BLOCK = FRAME * 512
LEAK_DB = 12.0
SMOOTH_FRAMES = 7
MODEL = "silero_vad_16k_products.onnx"

Samples = NDArray[np.int16]
Scores = NDArray[np.float32]


class VoiceActivity:
    """Silero's sequence model: 32 ms frames, about one second of CPU for 18 minutes of audio.

    The file is made by tools/samples/make_speech_detector.py: Silero's weights, and all frames of a block in one
    product.

    Holds no state between calls; one instance is not to be used by two threads at once.
    """

    def __init__(
        self, threshold: float = 0.5, bridge_ms: int = 300, pad_ms: int = 200, min_ms: int = 96
    ) -> None:
        # onnxruntime takes 0.1 s to import: only the processes that listen pay for it.
        import onnxruntime as ort  # noqa: PLC0415

        options = ort.SessionOptions()
        # One thread: the model is small, the process may fork, and cores are shared out by process.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        model = resources.files("trunkline_audio.models").joinpath(MODEL).read_bytes()
        self._session: Any = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._threshold = threshold
        self._bridge = bridge_ms * RATE // 1000
        self._pad = pad_ms * RATE // 1000
        self._min = min_ms * RATE // 1000

    def scores(self, chunks: Iterable[Samples]) -> Scores:
        """Probability of speech for each frame of 512 samples of int16 mono at 16 kHz.

        Chunks hold `BLOCK` samples each, the last one at most, so that hours of sound never lie in memory.
        """
        hidden = np.zeros((1, 1, 128), np.float32)
        cell = np.zeros((1, 1, 128), np.float32)
        context = np.zeros(CONTEXT, np.float32)
        out: list[Scores] = []
        for samples in chunks:
            chunk = samples.astype(np.float32) / 32768.0
            frames = np.zeros((-(-len(chunk) // FRAME), FRAME), np.float32)
            frames.reshape(-1)[: len(chunk)] = chunk
            contexts = np.vstack([context[None], frames[:-1, -CONTEXT:]])
            context = frames[-1, -CONTEXT:]
            block = np.concatenate([contexts, frames], axis=1)
            values, hidden, cell = self._session.run(
                ["speech_probs", "hn", "cn"], {"input": block, "h": hidden, "c": cell}
            )
            out.append(np.asarray(values, np.float32).reshape(-1))
        return np.concatenate(out) if out else np.zeros(0, np.float32)

    def spans(self, scores: Scores, total: int) -> list[SampleRange]:
        """Speech as spans of samples: bridged over short pauses, padded, never past `total` samples.

        A span starts at the threshold and goes on while frames stay above the threshold less 0.15, as the
        model's authors do, so that a word's soft end is kept.
        """
        raw: list[SampleRange] = []
        start: int | None = None
        for index, score in enumerate(scores):
            if start is None and score >= self._threshold:
                start = index
            elif start is not None and score < self._threshold - 0.15:
                raw.append(SampleRange(start * FRAME, index * FRAME))
                start = None
        if start is not None:
            raw.append(SampleRange(start * FRAME, min(total, len(scores) * FRAME)))
        joined = [span for span in merged(raw, self._bridge) if span.samples >= self._min]
        return padded(joined, self._pad, total)


def split(span: SampleRange, scores: Scores, longest: int) -> list[SampleRange]:
    """Cuts a span into parts of at most `longest` samples, each cut where speech was least likely.

    The place is looked for in the second half of what fits, over three frames, so that no cut falls into a
    word while there is a pause to be had.
    """
    out: list[SampleRange] = []
    start = span.start
    while span.end - start > longest:
        first = (start + longest // 2) // FRAME + 1
        last = max(first + 1, (start + longest) // FRAME)
        window = scores[max(0, first - 1) : last + 1]
        smooth = np.convolve(window, np.ones(3, np.float32) / 3, mode="valid") if len(window) >= 3 else window
        cut = min(start + longest, (first + int(np.argmin(smooth))) * FRAME + FRAME // 2)
        out.append(SampleRange(start, cut))
        start = cut
    out.append(SampleRange(start, span.end))
    return out


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
