"""How much memory an upload takes: the gateway and the audio service while a recording of 512 MB goes through both.

`upload_peak_mb` is the most that both processes held above what they held idle, after an upload of a few seconds of
sound. `upload_mb_s` is how fast it went. The recording is PCM, so that nothing decodes it.
"""

from __future__ import annotations

import os
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.seed import api, seed_tenant

from tools.bench import Target, report
from tools.bench.start import memory_mb
from tools.packages import ROOT

FOLDER = Path("build/bench/uploads")
MB = 1024 * 1024
# A model that loads in the meantime would be counted.
NO_MODEL = {
    "TRUNKLINE_AUDIO_ENGINE": "tests.standins.instant_audio:create",
    "PYTHONPATH": str(ROOT),
}
TARGETS = {"upload_peak_mb": Target("<", 64)}
_RATE, _CHANNELS, _WIDTH = 48_000, 2, 2
_PIECE = bytes(MB)


def recording(size: int) -> Iterator[bytes]:
    """Give a WAV of so many bytes that differs from any other: its first samples are noise."""
    data = size - 44
    step = _CHANNELS * _WIDTH
    form = struct.pack("<IHHIIHH", 16, 1, _CHANNELS, _RATE, _RATE * step, step, _WIDTH * 8)
    yield b"RIFF" + struct.pack("<I", size - 8) + b"WAVEfmt " + form + b"data" + struct.pack("<I", data)
    noise = os.urandom(min(data, 4_096))
    yield noise
    left = data - len(noise)
    while left:
        piece = _PIECE[: min(left, MB)]
        left -= len(piece)
        yield piece


def upload(client: httpx.Client, tenant: str, size: int) -> None:
    """Upload a recording of so many bytes in one request."""
    answer = client.post(
        f"/v1/tenants/{tenant}/recordings:upload",
        content=recording(size),
        headers={"content-type": "audio/wav", "content-length": str(size)},
        timeout=600,
    )
    answer.raise_for_status()
    if answer.json()["recording"]["sizeBytes"] != str(size):
        raise RuntimeError(answer.text)


class Memory:
    """The memory of processes while a block lasts, MB: `peak` is the most above what they held at its beginning."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._ended = threading.Event()
        self.peak = 0.0

    def _now(self) -> float:
        return sum(memory_mb(pid) for pid in self._pids)

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self.peak = max(self.peak, self._now() - self._idle)

    def __enter__(self) -> Memory:
        self._idle = self._now()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def settled(pids: list[int], seconds: float = 60) -> None:
    """Wait until processes hold as much as they did a while ago: decoders warm behind the open port."""
    before = 0.0
    for _ in range(int(seconds / 3)):
        now = sum(memory_mb(pid) for pid in pids)
        if abs(now - before) < 1:
            return
        before = now
        time.sleep(3)


def figures(folder: Path = FOLDER, size: int = 512 * MB) -> dict[str, float]:
    """Take the figures, with processes of their own."""
    shutil.rmtree(folder, ignore_errors=True)
    suite = Suite(folder, free_ports=True, env=NO_MODEL)
    try:
        pids = [suite.spawn(name).pid for name in ("tenant", "audio", "gateway")]
        for name in ("tenant", "audio", "gateway"):
            suite.wait_ready(name)
        tenant = seed_tenant(suite.http_url, suite.operator_token, "uploads", "http://127.0.0.1:9")
        with api(suite.http_url, tenant.api_key) as client:
            for _ in range(3):
                upload(client, "uploads", MB)
            settled(pids[1:])
            began = time.perf_counter()
            with Memory(pids[1:]) as memory:
                upload(client, "uploads", size)
            took = time.perf_counter() - began
        return {"upload_peak_mb": memory.peak, "upload_mb_s": size / MB / took}
    finally:
        suite.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Take the figures and report them."""
    report("uploads", figures(), TARGETS)


if __name__ == "__main__":
    main()
