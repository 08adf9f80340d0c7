"""The audio service as a process: an hour of sound, short calls beside it, and what it adds to faster-whisper."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import statistics
import time
import wave
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faster_whisper import WhisperModel
from google.longrunning import operations_pb2, operations_pb2_grpc
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline.audio.v1.transcription_service_pb2_grpc import TranscriptionServiceStub
from trunkline_audio import schema
from trunkline_audio.engines.whisper.settings import WhisperSettings
from trunkline_audio.media.blobs.local import LocalBlobs
from trunkline_audio.media.preprocess.timeline import RATE
from trunkline_audio.models.lookup import default_folder, verify
from trunkline_audio.recordings.rows import Recording, Recordings
from trunkline_cli.suite.processes import Suite
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels, acting_for
from trunkline_store import Database

from tools.bench.audio.engine import CALLS, CORES, LONG
from tools.bench.audio.preparation import call_samples

FOLDER = Path("build/bench/audio-service")
TENANT = "bench"
PARENT = f"tenants/{TENANT}"
SHORT = 4
ROUNDS = 3
LOOK_SECONDS = 0.5
MOST_SECONDS = 3_600.0


@dataclass(frozen=True)
class Served:
    """A service that runs."""

    suite: Suite
    transcripts: Any
    """A TranscriptionServiceStub."""
    operations: Any
    """An OperationsStub."""
    process_group: int

    async def start(self, recording: str, generation: int = 0) -> str:
        """Have a recording transcribed; the operation's name."""
        name = f"{PARENT}/recordings/{recording}"
        request = pb.TranscribeRecordingRequest(name=name, generation=generation)
        made: str = (await self.transcripts.TranscribeRecording(request)).name
        return made

    async def get(self, name: str) -> tuple[operations_pb2.Operation, float]:
        """An operation, and how many seconds of its recording are done."""
        operation = await self.operations.GetOperation(operations_pb2.GetOperationRequest(name=name))
        metadata = pb.TranscribeRecordingMetadata()
        operation.metadata.Unpack(metadata)
        return operation, metadata.transcribed_duration.ToTimedelta().total_seconds()

    async def ended(self, name: str) -> None:
        """Wait for an operation. Raises RuntimeError when it fails."""
        request = operations_pb2.WaitOperationRequest(name=name)
        while not (operation := await self.operations.WaitOperation(request, timeout=30)).done:
            pass
        if operation.HasField("error"):
            raise RuntimeError(operation.error.message)


def figures() -> dict[str, float]:
    """Minutes that an hour of mono sound takes, and the most memory of all processes of the service meanwhile."""

    async def measure() -> dict[str, float]:
        async with serving(["hour"]) as served:
            begun, used = time.perf_counter(), []
            name = await served.start("hour")
            while not (operation := (await served.get(name))[0]).done:
                used.append(await asyncio.to_thread(memory_mb, served.process_group))
                await asyncio.sleep(LOOK_SECONDS)
            if operation.HasField("error"):
                raise RuntimeError(operation.error.message)
            half = len(used) // 2
            return {
                "hour_min": (time.perf_counter() - begun) / 60,
                "hour_peak_mb": max(used),
                "hour_growth_mb": max(used[half:]) - max(used[:half]),
            }

    return asyncio.run(measure())


def short_beside_long() -> dict[str, float]:
    """Seconds until four calls of a minute are done that come at once while an hour is transcribed."""

    async def measure() -> dict[str, float]:
        shorts = [f"short-{number}" for number in range(SHORT)]
        async with serving(["hour", *shorts]) as served:
            hour = await served.start("hour")
            while (await served.get(hour))[1] == 0:
                await asyncio.sleep(LOOK_SECONDS)
            begun = time.perf_counter()
            names = await asyncio.gather(*(served.start(short) for short in shorts))
            await asyncio.gather(*(served.ended(name) for name in names))
            took = time.perf_counter() - begun
            operation, reached = await served.get(hour)
            assert not operation.done, "the hour ended before the calls"
            await served.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=hour))
            return {"short_beside_long_s": took, "long_meanwhile_s": reached}

    return asyncio.run(measure())


def overhead() -> dict[str, float]:
    """How many times as long as faster-whisper alone the service takes for a minute of mono sound, in turns."""
    settings = WhisperSettings(lanes=CORES)
    model = WhisperModel(
        str(verify(settings.model, default_folder())),
        device=settings.device,
        compute_type=settings.compute_type,
        cpu_threads=CORES,
        local_files_only=True,
    )
    file = str(CALLS / _call(LONG["mono60_s"])["file"])

    def direct() -> None:
        segments, _ = model.transcribe(file, beam_size=settings.beam, word_timestamps=True, vad_filter=True)
        for _segment in segments:
            pass

    async def measure() -> dict[str, float]:
        async with serving(["short-0"]) as served:
            alone, through = [], []
            for generation in range(ROUNDS + 1):
                begun = time.perf_counter()
                await asyncio.to_thread(direct)
                between = time.perf_counter()
                request = pb.CreateTranscriptRequest(
                    parent=PARENT, recording=f"{PARENT}/recordings/short-0", generation=generation
                )
                await served.transcripts.CreateTranscript(request, timeout=120)
                if generation:  # the first round warms both up
                    alone.append(between - begun)
                    through.append(time.perf_counter() - between)
        one, other = statistics.median(through), statistics.median(alone)
        return {"overhead_ratio": one / other, "direct60_s": other, "service60_s": one}

    return asyncio.run(measure())


@contextlib.asynccontextmanager
async def serving(recordings: Sequence[str]) -> AsyncIterator[Served]:
    """Run the service over these recordings: `hour`, and minutes by any other name."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    suite = Suite(FOLDER, free_ports=True, env={"TRUNKLINE_AUDIO_ENGINE_WORKERS": str(CORES)})
    await _keep(suite, recordings)
    process = suite.spawn("audio")
    channels = Channels(TokenSigner(FOLDER / "keys", "gateway"))
    try:
        suite.wait_ready("audio")
        channel = channels.get(suite.grpc["audio"])
        with acting_for(TENANT):
            async with asyncio.timeout(MOST_SECONDS):
                transcripts = TranscriptionServiceStub(channel)
                yield Served(suite, transcripts, operations_pb2_grpc.OperationsStub(channel), process.pid)
    finally:
        await channels.close()
        suite.stop()
        shutil.rmtree(FOLDER, ignore_errors=True)


async def _keep(suite: Suite, names: Sequence[str]) -> None:
    """Put recordings into the service's store, as a fetch would."""
    environment = suite.environment()
    blobs = LocalBlobs(Path(environment["TRUNKLINE_AUDIO_BLOBS_FOLDER"]))
    call = _call(LONG["mono60_s"])
    async with await Database.open(
        environment["TRUNKLINE_AUDIO_STORE_URL"], schema.metadata, migrations="trunkline_audio.migrations"
    ) as db:
        for name in names:
            body, seconds = ((CALLS / call["file"]).read_bytes(), float(call["seconds"]))
            if name == "hour":
                body, seconds = _hour(), 3_600.0
            kept = Recording(
                tenant_id=TENANT,
                recording_id=name,
                call="",
                # The minutes have the same sound, and what is equal is heard once: each has a digest of its own.
                sha256=hashlib.sha256(name.encode() + body).hexdigest(),
                size_bytes=len(body),
                format="wav/pcm_s16le" if name == "hour" else "mp3/mp3",
                duration_us=round(seconds * 1e6),
                channels=1,
                sample_rate_hertz=RATE if name == "hour" else 8_000,
                created_at=datetime.now(UTC),
            )
            await blobs.put(kept.blob_key, _once(body))
            await Recordings(db).add(kept)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _hour() -> bytes:
    """An hour of mono sound: a sample call, sixty times."""
    path = FOLDER / "hour.wav"
    minute = call_samples().tobytes().ljust(60 * RATE * 2, b"\0")
    with wave.open(str(path), "wb") as sink:
        sink.setnchannels(1)
        sink.setsampwidth(2)
        sink.setframerate(RATE)
        for _ in range(60):
            sink.writeframes(minute)
    return path.read_bytes()


def _call(identity: str) -> dict[str, Any]:
    calls = json.loads((CALLS / "calls.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = next(call for call in calls if call["id"] == identity)
    return found


def memory_mb(group: int) -> float:
    """Memory of a process group, MiB; a page that several share is counted once (PSS)."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
        except (OSError, StopIteration):
            continue  # it ended meanwhile
    return total
