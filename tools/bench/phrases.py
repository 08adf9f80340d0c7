"""Bench `phrases`: how many names Whisper hears that it is told of, and that it is not told of.

`hotword_recall` is the share of the names of tools/samples/phrase_scenarios.py that the text holds as they are written,
told of a list that also has names which nobody says; `hotword_recall_without` is the same without the list. The word
error rates are of the same sentences. `hotword_invented_words` counts words over sounds that are no speech, with the
list.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path

import jiwer
from trunkline_audio.app import PREPARE
from trunkline_audio.engines.base import EngineResult
from trunkline_audio.engines.recording import RecordingFile
from trunkline_audio.engines.whisper.engine import WhisperEngine
from trunkline_audio.engines.whisper.settings import WhisperSettings
from trunkline_audio.media.preparation import PrepareLimits, Preparer
from trunkline_audio.workers.pool import WorkerPool
from whisper_normalizer.english import EnglishTextNormalizer

from tools.bench import Target, report
from tools.bench.audio.engine import CORES, SOUND_HZ
from tools.packages import ROOT
from tools.samples.phrase_scenarios import PHRASES, SENTENCES
from tools.samples.sounds import SOUNDS

FOLDER = ROOT / "tests" / "data" / "phrases"
TARGETS = {
    "hotword_recall": Target(">=", 0.25),
    "hotword_invented_words": Target("<=", 0),
}


class Bench:
    """The engine with its decoders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        decoders = WorkerPool(PREPARE, size=1, name="decoder")
        self._preparer = Preparer(decoders, folder / "scratch", PrepareLimits())
        self._engine = WhisperEngine(WhisperSettings(lanes=min(CORES, os.cpu_count() or 1)))

    async def figures(self) -> dict[str, float]:
        """Take every figure."""
        self._preparer.start()
        try:
            async with asyncio.timeout(900), self._engine:
                await self._engine.wait_ready()
                told, untold = await self._sentences(PHRASES), await self._sentences(())
                sounds = await self._all(self._sounds(), PHRASES)
        finally:
            await self._preparer.close()
        return {
            "hotword_recall": recall(told),
            "hotword_recall_without": recall(untold),
            "hotword_wer": error_rate(told),
            "hotword_wer_without": error_rate(untold),
            "hotword_invented_words": float(sum(len(text.split()) for text in sounds)),
        }

    async def _sentences(self, phrases: Sequence[str]) -> list[str]:
        return await self._all([FOLDER / f"{sentence.id}.ogg" for sentence in SENTENCES], phrases)

    def _sounds(self) -> list[Path]:
        paths = []
        for name, make in SOUNDS.items():
            paths.append(self._folder / f"{name}.wav")
            with wave.open(str(paths[-1]), "wb") as sink:
                sink.setnchannels(1)
                sink.setsampwidth(2)
                sink.setframerate(SOUND_HZ)
                sink.writeframes(make().astype("<i2").tobytes())
        return paths

    async def _all(self, paths: Sequence[Path], phrases: Sequence[str]) -> list[str]:
        return [text(heard) for heard in await asyncio.gather(*(self._hear(path, phrases) for path in paths))]

    async def _hear(self, path: Path, phrases: Sequence[str]) -> EngineResult:
        return await self._engine.transcribe(
            RecordingFile(path, self._preparer, "bench", "en-US", 10.0, 1, phrases=tuple(phrases))
        )


def text(heard: EngineResult) -> str:
    """What was heard, in order of time."""
    return " ".join(segment.text for segment in heard.segments)


def recall(texts: Sequence[str]) -> float:
    """The share of the names that the texts of their sentences hold, whatever their case and punctuation."""
    pairs = [(name, said) for sentence, said in zip(SENTENCES, texts, strict=True) for name in sentence.names]
    return sum(f" {_plain(name)} " in f" {_plain(said)} " for name, said in pairs) / len(pairs)


def error_rate(texts: Sequence[str]) -> float:
    """The word error rate over the sentences."""
    plain = EnglishTextNormalizer()
    return float(jiwer.wer([plain(sentence.text) for sentence in SENTENCES], [plain(said) for said in texts]))


def _plain(words: str) -> str:
    return " ".join(re.findall(r"[a-z]+", words.lower()))


def main() -> None:
    """Takes the figures and reports them."""
    with tempfile.TemporaryDirectory() as folder:
        report("phrases", asyncio.run(Bench(Path(folder)).figures()), TARGETS)


if __name__ == "__main__":
    main()
