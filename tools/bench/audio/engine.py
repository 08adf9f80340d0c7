"""The engine beside its parts: how fast a call is transcribed, how many words are wrong or invented.

Uses the service's own parts (sandboxed decoding, speech detection, the engine's process) over tests/data/calls
and tools/samples/sounds.py. `rtf_per_core` is processor seconds of recognition a second of call, `rss_mb` the most
memory that the engine's process held, `warm_s` the time from its start to the first answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jiwer
from trunkline_audio.app import PREPARE
from trunkline_audio.engines.base import EngineResult
from trunkline_audio.engines.recording import RecordingFile
from trunkline_audio.engines.whisper.engine import WhisperEngine
from trunkline_audio.engines.whisper.settings import WhisperSettings
from trunkline_audio.media.preparation import PrepareLimits, Preparer
from trunkline_audio.workers.pool import WorkerPool
from whisper_normalizer.english import EnglishTextNormalizer

from tools.bench import Target
from tools.packages import ROOT
from tools.samples.sounds import SOUNDS

CALLS = ROOT / "tests" / "data" / "calls"
TARGETS = {
    "stereo60_s": Target("<", 6.0),
    "mono60_s": Target("<", 5.5),
    "wer_telephone": Target("<=", 0.06),
    "wer_telephone_mono": Target("<=", 0.08),
    "wer_16k": Target("<=", 0.03),
    "invented_words": Target("<=", 0),
    "warm_s": Target("<", 5.0),
}
LONG = {"stereo60_s": "water-heater", "mono60_s": "water-heater-mono"}
CORES = 2
ROUNDS = 3
SOUND_HZ = 8_000

Spoken = tuple[dict[str, Any], str]
"""A call of the index, and which of its files."""


class Bench:
    """Warm processes and the figures that were taken with them."""

    def __init__(self, folder: Path, settings: WhisperSettings) -> None:
        self._folder = folder
        self._decoders = WorkerPool(PREPARE, size=1, name="decoder")
        self._preparer = Preparer(self._decoders, folder / "scratch", PrepareLimits())
        self._engine = WhisperEngine(settings)
        self.figures: dict[str, float] = {}

    async def run(self, calls: Sequence[dict[str, Any]]) -> None:
        """Takes every figure."""
        async with asyncio.timeout(900), self.warm():
            for key, identity in LONG.items():
                await self._speed(key, next(call for call in calls if call["id"] == identity))
            await self.words(calls)
            await self._sounds()
            self.figures["rss_mb"] = self._most_memory()

    @asynccontextmanager
    async def warm(self) -> AsyncIterator[None]:
        """Runs the processes while the block lasts, which begins when a model is loaded."""
        self._preparer.start()
        try:
            await self._decoders.wait_ready()
            begun = time.perf_counter()
            async with self._engine:
                await self._engine.wait_ready()
                self.figures["warm_s"] = time.perf_counter() - begun
                yield
        finally:
            await self._preparer.close()

    async def words(self, calls: Sequence[dict[str, Any]]) -> None:
        """The word error rates over the English calls, by kind of recording."""
        english = [call for call in calls if call["language"] == "en" and call["turns"]]
        dual = [(call, call["file"]) for call in english if call["channels"] == 2]
        mono = [(call, call["file"]) for call in english if call["channels"] == 1]
        wide = {call["wide_file"]: call for call in english if call["wide_file"]}
        self.figures["wer_telephone"] = await self._error_rate(dual)
        self.figures["wer_telephone_mono"] = await self._error_rate(mono)
        self.figures["wer_16k"] = await self._error_rate([(call, file) for file, call in wide.items()])

    async def hear(self, path: Path, seconds: float, channels: int, language: str = "en-US") -> EngineResult:
        """What the engine hears in a file."""
        recording = RecordingFile(path, self._preparer, "bench", language, seconds, channels)
        return await self._engine.transcribe(recording)

    async def _speed(self, key: str, call: dict[str, Any]) -> None:
        """Seconds that a minute of this call takes by the wall clock, and by the processor."""
        minutes = call["seconds"] / 60
        took = []
        used = self._processor_seconds()
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            await self.hear(CALLS / call["file"], call["seconds"], call["channels"])
            took.append((time.perf_counter() - begun) / minutes)
        self.figures[key] = statistics.median(took)
        spent = (self._processor_seconds() - used) / ROUNDS / call["seconds"]
        self.figures[key.replace("60_s", "_rtf_per_core")] = spent

    async def _error_rate(self, spoken: Sequence[Spoken]) -> float:
        heard = await asyncio.gather(
            *(self.hear(CALLS / file, call["seconds"], call["channels"]) for call, file in spoken)
        )
        plain = EnglishTextNormalizer()
        wanted = [plain(" ".join(turn["text"] for turn in call["turns"])) for call, _ in spoken]
        return float(jiwer.wer(wanted, [plain(in_order(result)) for result in heard]))

    async def _sounds(self) -> None:
        """Words that were heard where nobody speaks."""
        invented = 0
        for name, make in SOUNDS.items():
            samples = make()
            path = self._folder / f"{name}.wav"
            with wave.open(str(path), "wb") as sink:
                sink.setnchannels(1)
                sink.setsampwidth(2)
                sink.setframerate(SOUND_HZ)
                sink.writeframes(samples.astype("<i2").tobytes())
            heard = await self.hear(path, len(samples) / SOUND_HZ, 1)
            invented += sum(len(segment.words) for segment in heard.segments)
        self.figures["invented_words"] = invented

    def _processor_seconds(self) -> float:
        """What the engine's process has used; the decoders are not in it."""
        ticks = 0
        for pid in self._engine.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _most_memory(self) -> float:
        """The most that the engine's process ever held, MB."""
        (pid,) = self._engine.pids
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def in_order(result: EngineResult) -> str:
    """The words of all speakers in the order in which they were said."""
    words = sorted((word.start, word.text) for segment in result.segments for word in segment.words)
    return " ".join(text for _, text in words)


def settings() -> WhisperSettings:
    """How the engine is run."""
    return WhisperSettings(lanes=CORES)


def figures() -> dict[str, float]:
    """The figures of speed and words over the sample calls."""
    calls = json.loads((CALLS / "calls.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), settings())
        asyncio.run(bench.run(calls))
    return bench.figures
