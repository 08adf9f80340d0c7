"""The engine of Google Speech-to-Text v2: a recording's speech in windows of less than a minute, side by side."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import grpc.aio
from trunkline_runtime.engines.base import NOT_READY, EngineError, EngineUsage
from trunkline_runtime.observe import logs

from trunkline_audio.engines import windows
from trunkline_audio.engines.base import EngineInput, EngineResult, PreparedAudio, SpeechCapabilities
from trunkline_audio.engines.google import messages
from trunkline_audio.engines.google.failures import engine_error, is_of_the_set_up, is_passing, pause_of
from trunkline_audio.engines.google.messages import HeardWindow
from trunkline_audio.engines.google.settings import GoogleSettings
from trunkline_audio.engines.turns import joined
from trunkline_audio.engines.windows import Window
from trunkline_audio.workers.fairness import FairLanes

if TYPE_CHECKING:
    import tenacity
    from google.cloud import speech_v2

log = logs.get_logger(__name__)

LONGEST_SECONDS = 55.0
"""Of a window: Recognize takes a minute."""
REQUEST_SECONDS = 60.0
LOW_CONFIDENCE = 0.45
"""Mean confidence below which a transcript is not to be relied on, where the model gives any."""


class GoogleEngine:
    """Asks Recognize for each window of speech, so that silence is not paid for and no bucket is needed.

    Warming up loads the client library and the credentials. A refusal that is about the set-up (credentials, project,
    recognizer) is the engine's `problem` until a request succeeds; requests go on, so that mending it is enough.
    """

    capabilities = SpeechCapabilities(detects_language=True, word_times=True)

    def __init__(self, settings: GoogleSettings) -> None:
        self._settings = settings
        self._fair = FairLanes(settings.requests_at_once)
        self._warming: asyncio.Task[None] | None = None
        self._client: Any = None  # a SpeechAsyncClient, once its library is loaded
        self._problem = "the client is being made"
        self.name = f"google/v2 {settings.model}"[:64]

    @property
    def problem(self) -> str:
        """Why it cannot answer."""
        return self._problem

    async def __aenter__(self) -> Self:
        """Begin to load the client library; returns at once."""
        self._warming = asyncio.create_task(self._warm())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the channel."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        if self._client is not None:
            await self._client.transport.close()

    async def transcribe(self, recording: EngineInput) -> EngineResult:
        """Transcribe a recording; its language is what Google is told, and without one it is detected.

        Raises EngineError.
        """
        await self._warmed()
        if self._client is None:
            raise EngineError(NOT_READY, self._problem, transient=True)
        async with recording.prepared() as audio:
            result = EngineResult(
                self.name, recording.language, lanes=audio.lanes, speech_seconds=audio.speech_seconds
            )
            if not audio.utterances:
                return result
            heard = await self._all(recording, audio)
        return _told(result, heard, self._settings.price_micros_per_minute)

    async def _warmed(self) -> None:
        """Wait for the client; where it could not be made, try once more: the credentials may be there by now."""
        if self._client is None and (self._warming is None or self._warming.done()):
            self._warming = asyncio.create_task(self._warm())
        if self._warming is not None:
            await asyncio.wait([self._warming])

    async def _all(self, recording: EngineInput, audio: PreparedAudio) -> list[HeardWindow]:
        packed = windows.packed(audio.utterances, LONGEST_SECONDS)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(recording, audio, window)) for window in packed]
        except* EngineError as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _one(self, recording: EngineInput, audio: PreparedAudio, window: Window) -> HeardWindow:
        async with self._fair.lane(recording.tenant_id, audio.scratch.name):
            sound = await asyncio.to_thread(_sound, audio, window)
            answer = await self._recognized(messages.request(self._settings, recording.language, sound))
        return messages.heard(window, answer)

    async def _recognized(self, request: speech_v2.RecognizeRequest) -> Any:
        try:
            answer: Any = await self._retrying()(
                self._client.recognize, request=request, retry=None, timeout=REQUEST_SECONDS
            )
        except Exception as error:
            if is_of_the_set_up(error) and not self._problem:
                self._problem = f"Google refuses: {error}".splitlines()[0][:300]
                log.error("speech_engine_refused", engine=self.name, problem=self._problem)
            raise engine_error(error) from None
        self._problem = ""
        return answer

    def _retrying(self) -> tenacity.AsyncRetrying:
        import tenacity  # noqa: PLC0415 -- only where something is retried

        jitter = tenacity.wait_random_exponential(multiplier=0.5, max=10.0)
        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(is_passing),
            stop=tenacity.stop_before_delay(self._settings.patience_seconds),
            wait=lambda state: max(
                jitter(state), pause_of(state.outcome.exception() if state.outcome else None)
            ),
            reraise=True,
        )

    async def _warm(self) -> None:
        try:
            credentials = await asyncio.to_thread(_credentials, self._settings)
            self._client = _make_client(self._settings, credentials)
        except Exception as error:  # nobody awaits this task
            problem = f"the client cannot be made: {error}".splitlines()[0][:300]
            if problem != self._problem:
                log.error("speech_engine_not_usable", engine=self.name, problem=problem)
            self._problem = problem
            return
        self._problem = ""


def _credentials(settings: GoogleSettings) -> Any:
    """Import the client library and look for the credentials, which takes a second and may ask the network."""
    import google.auth  # noqa: PLC0415
    from google.cloud import speech_v2  # noqa: F401, PLC0415

    if settings.endpoint.startswith("http://"):
        return None
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    found, _ = google.auth.default(scopes=scopes, quota_project_id=settings.quota_project or None)
    return found


def _make_client(settings: GoogleSettings, credentials: Any) -> Any:
    """Make the client, whose channel is of the event loop that runs."""
    from google.api_core.client_options import ClientOptions  # noqa: PLC0415
    from google.cloud import speech_v2  # noqa: PLC0415
    from google.cloud.speech_v2.services.speech.transports import SpeechGrpcAsyncIOTransport  # noqa: PLC0415

    if settings.endpoint.startswith("http://"):
        transport: Any = SpeechGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(settings.host))
        return speech_v2.SpeechAsyncClient(transport=transport)
    options = ClientOptions(api_endpoint=settings.host)
    return speech_v2.SpeechAsyncClient(credentials=credentials, client_options=options)


def _sound(audio: PreparedAudio, window: Window) -> bytes:
    spans = [(item.start, item.end) for item in window.utterances]
    return messages.flac(windows.samples(audio.lane(window.lane), spans))


def _told(result: EngineResult, heard: list[HeardWindow], micros_per_minute: int) -> EngineResult:
    billed = sum(window.billed_seconds for window in heard)
    usage = EngineUsage(billed, cost_micros=round(billed / 60 * micros_per_minute))
    spoken = Counter[str]()
    for window in heard:
        if window.segments:
            spoken[window.language] += 1
    detected = spoken.most_common(1)[0][0] if spoken else ""
    sure = [confidence for window in heard for confidence in window.confidences]
    doubtful = bool(sure) and sum(sure) / len(sure) < LOW_CONFIDENCE
    return replace(
        result,
        segments=joined(segment for window in heard for segment in window.segments),
        language=result.language or detected,
        unreliable="low_confidence" if doubtful else "",
        usage=usage,
    )
