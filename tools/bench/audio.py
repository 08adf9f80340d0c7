"""Bench `audio`: how fast a call is transcribed on this machine's cores, and how many words are wrong.

Uses the service's own parts (sandboxed decoding, speech detection, worker processes) over tests/data/calls.
`rtf_per_core` is processor seconds of recognition a second of call; `load_before` tells how busy the machine
was.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import tempfile
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
from trunkline_audio.app import PREPARE
from trunkline_audio.engines.base import EngineResult, PreparedAudio
from trunkline_audio.engines.local import LocalEngine
from trunkline_audio.preparation import PrepareLimits, Preparer
from trunkline_audio.workers.pool import WorkerPool

from tools.bench.report import Target, report
from tools.packages import ROOT

CALLS = ROOT / "tests" / "data" / "calls"
TARGETS = {
    "stereo60_s": Target("<", 6.0),
    "mono60_s": Target("<", 6.0),
    "wer_telephone": Target("<=", 0.30),
    "wer_telephone_mono": Target("<=", 0.38),
    "wer_16k": Target("<=", 0.12),
}
LONG = {"stereo60_s": "water-heater", "mono60_s": "water-heater-mono"}
CORES = 2
ROUNDS = 3


@dataclass(frozen=True)
class File:
    """A sample call as engines get it."""

    path: Path
    preparer: Preparer
    seconds: float
    channels: int

    def prepared(self) -> AbstractAsyncContextManager[PreparedAudio]:
        """Decodes it in the sandbox."""
        return self.preparer.prepare(self.path)


class Bench:
    """Warm processes and the figures that were taken with them."""

    def __init__(self, scratch: Path) -> None:
        self.decoders = WorkerPool(PREPARE, size=1, name="decoder")
        self.speech = WorkerPool("trunkline_audio.engines.pocketsphinx:handler", size=CORES, name="speech")
        self.preparer = Preparer(self.decoders, scratch, PrepareLimits())
        self.engine = LocalEngine(self.speech)
        self.figures: dict[str, float] = {}

    async def run(self, calls: list[dict[str, Any]]) -> None:
        """Takes every figure."""
        self.preparer.start()
        self.engine.start()
        try:
            await self.decoders.wait_ready()
            await self.speech.wait_ready(CORES)
            for key, identity in LONG.items():
                await self._speed(key, next(call for call in calls if call["id"] == identity))
            english = [call for call in calls if call["language"] == "en" and call["turns"]]
            stereo = [call for call in english if call["channels"] == 2]
            mono = [call for call in english if call["channels"] == 1]
            await self._words("wer_telephone", [(call, call["file"]) for call in stereo])
            await self._words("wer_telephone_mono", [(call, call["file"]) for call in mono])
            wide = {call["wide_file"]: call for call in english if call["wide_file"]}
            await self._words("wer_16k", [(call, file) for file, call in wide.items()])
        finally:
            await self.engine.close()
            await self.preparer.close()

    async def _hear(self, call: dict[str, Any], file: str) -> EngineResult:
        source = File(CALLS / file, self.preparer, call["seconds"], call["channels"])
        return await self.engine.transcribe(source, "en-US")

    async def _speed(self, key: str, call: dict[str, Any]) -> None:
        """Seconds that a minute of this call takes by the wall clock, and by the processor."""
        minutes = call["seconds"] / 60
        took = []
        used = self._processor_seconds()
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            await self._hear(call, call["file"])
            took.append((time.perf_counter() - begun) / minutes)
        self._note(key, statistics.median(took))
        spent = (self._processor_seconds() - used) / ROUNDS / call["seconds"]
        self._note(key.replace("60_s", "_rtf_per_core"), spent)

    async def _words(self, key: str, files: list[tuple[dict[str, Any], str]]) -> None:
        heard = await asyncio.gather(*(self._hear(call, file) for call, file in files))
        spoken = [plain(" ".join(turn["text"] for turn in call["turns"])) for call, _ in files]
        self._note(key, float(jiwer.wer(spoken, [plain(in_order(result)) for result in heard])))

    def _processor_seconds(self) -> float:
        """What the speech processes have used; their decoders' forks are not in it."""
        ticks = 0
        for pid in self.speech.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _note(self, key: str, value: float) -> None:
        self.figures[key] = value


def in_order(result: EngineResult) -> str:
    """The words of all speakers in the order in which they were said."""
    words = sorted((word.start, word.text) for segment in result.segments for word in segment.words)
    return " ".join(text for _, text in words)


def plain(text: str) -> str:
    """Lower case, hyphens as spaces, no punctuation."""
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower().replace("-", " ")).split())


def main() -> None:
    """Takes the figures and reports them."""
    calls = json.loads((CALLS / "calls.json").read_text(encoding="utf-8"))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "scratch")
        asyncio.run(bench.run(calls))
    report("audio", {**bench.figures, "load_before": load}, TARGETS)


if __name__ == "__main__":
    main()
