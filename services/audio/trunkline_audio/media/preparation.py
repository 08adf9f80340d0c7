"""Examines and prepares recordings in sandboxed processes; owns the scratch folder."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline_runtime.engines.fairness import FairLanes
from trunkline_runtime.observe import logs

from trunkline_audio.media.prepared import PreparedAudio, RecordingFault, Utterance
from trunkline_audio.media.preprocess import plain_wav
from trunkline_audio.workers.pool import WorkerError, WorkerPool

log = logs.get_logger(__name__)


@dataclass(frozen=True)
class PrepareLimits:
    """What decoding one recording may use."""

    max_seconds: float = 4 * 3600.0
    cpu_seconds: int = 300
    wall_seconds: float = 600.0
    memory_bytes: int = 512 * 1024 * 1024
    utterance_seconds: float = 20.0
    """Longest utterance, cut at pauses: several fit into what an engine listens to at a time."""


@dataclass(frozen=True)
class Examined:
    """What a recording is, counted from its samples."""

    format: str
    channels: int
    sample_rate: int
    seconds: float


class Preparer:
    """Decodes untrusted bytes, never in this process: an ordinary WAV is counted here, not decoded."""

    def __init__(self, pool: WorkerPool, scratch: Path, limits: PrepareLimits) -> None:
        self._pool = pool
        self._fair = FairLanes(pool.size)
        self._scratch = scratch
        self._limits = limits

    @property
    def ready(self) -> bool:
        """Whether it answers: a process is warm, or warms up for the first time."""
        return self._pool.ready

    def start(self) -> None:
        """Empties the scratch folder (what a killed service left) and begins to start the processes."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        try:
            self._make_scratch()
        except OSError as error:  # a recording that is worked on makes it, or says so
            log.warning("scratch_folder_not_made", folder=str(self._scratch), error=str(error))
        self._pool.start()

    def _make_scratch(self) -> None:
        self._scratch.mkdir(parents=True, mode=0o700, exist_ok=True)

    async def close(self) -> None:
        """Ends the processes and removes the scratch folder."""
        await self._pool.close()
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    async def examine(self, path: Path, tenant_id: str, headerless: str = "") -> Examined:
        """Tell what a tenant's recording is, counted from its samples; see `decode` for `headerless`.

        Raises EngineError.
        """
        # A few dozen bytes that were just written: a trip to a thread costs more.
        plain = plain_wav.look(path)
        if plain is not None and plain.frames <= self._limits.max_seconds * plain.sample_rate:
            return Examined(
                f"wav/{plain.codec}", plain.channels, plain.sample_rate, plain.frames / plain.sample_rate
            )
        request = {"path": str(path), "scratch": None, "headerless": headerless}
        return _examined(await self._run(request, tenant_id))

    @asynccontextmanager
    async def prepare(
        self, path: Path, tenant_id: str, headerless: str = "", priority: int = 0
    ) -> AsyncIterator[PreparedAudio]:
        """Decodes a tenant's recording into lanes, finds its speech. Raises EngineError, OSError for a faulty disk."""
        scratch = self._scratch / uuid.uuid4().hex
        self._make_scratch()
        try:
            request = {"path": str(path), "scratch": str(scratch), "headerless": headerless}
            reply = await self._run(request, tenant_id, priority)
            found = _examined(reply)
            yield PreparedAudio(
                scratch=scratch,
                lanes=int(reply["lanes"]),
                channels=found.channels,
                sample_rate=found.sample_rate,
                seconds=found.seconds,
                speech_seconds=float(reply["speech_seconds"]),
                utterances=tuple(Utterance(*map(int, item)) for item in reply["utterances"]),
            )
        finally:
            await asyncio.to_thread(_remove_lanes, scratch)

    async def _run(self, request: dict[str, Any], tenant_id: str, priority: int = 0) -> dict[str, Any]:
        limits = self._limits
        request |= {
            "max_seconds": limits.max_seconds,
            "cpu_seconds": limits.cpu_seconds,
            "wall_seconds": limits.wall_seconds,
            "memory_bytes": limits.memory_bytes,
            "utterance_seconds": limits.utterance_seconds,
        }
        try:
            async with self._fair.lane(tenant_id, str(request["path"]), priority):
                # The sandbox ends by itself; this only covers a process that starts besides.
                return await self._pool.run(request, seconds=limits.wall_seconds * 2)
        except WorkerError as error:
            raise RecordingFault(error.reason, str(error), transient=error.transient) from None


def _remove_lanes(scratch: Path) -> None:
    for lane in range(2):
        Path(f"{scratch}.{lane}").unlink(missing_ok=True)


def _examined(reply: dict[str, Any]) -> Examined:
    return Examined(
        format=str(reply["format"]),
        channels=int(reply["channels"]),
        sample_rate=int(reply["sample_rate"]),
        seconds=float(reply["seconds"]),
    )
