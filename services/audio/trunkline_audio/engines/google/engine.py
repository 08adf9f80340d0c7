"""The engine of Google Speech-to-Text v2: a recording's speech in windows of less than a minute, side by side."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self, TypeVar, cast

import grpc.aio
from trunkline_runtime.engines.base import NOT_READY, EngineError, EngineUsage
from trunkline_runtime.engines.google import credentials, is_of_the_set_up, is_passing, pause_of
from trunkline_runtime.observe import logs
from trunkline_runtime.resilience import RetryPolicy, retrying
from trunkline_runtime.rpc.call import current_rpc

from trunkline_audio.engines import windows
from trunkline_audio.engines.base import EngineInput, EngineResult, Segment, SpeechCapabilities
from trunkline_audio.engines.google import answers, requests
from trunkline_audio.engines.google.answers import HeardWindow
from trunkline_audio.engines.google.failures import engine_error, refused_feature
from trunkline_audio.engines.google.models import traits_of
from trunkline_audio.engines.google.quota import RequestQuota
from trunkline_audio.engines.google.requests import RequestHints
from trunkline_audio.engines.google.settings import GoogleSettings
from trunkline_audio.engines.google.streams import SoundStream
from trunkline_audio.engines.turns import joined
from trunkline_audio.engines.windows import Window
from trunkline_audio.media.prepared import PreparedAudio

log = logs.get_logger(__name__)

T = TypeVar("T")

LONGEST_SECONDS = 55.0
"""Of a window: Recognize takes a minute."""
REQUEST_SECONDS = 60.0
REFUSAL_SECONDS = 0.2
"""How long a stream waits for a refusal before it sends sound."""
LOW_CONFIDENCE = 0.45
"""Mean confidence below which a transcript is not to be relied on, where the model gives any."""
_ANSWER_SECONDS = 0.5  # of a caller's deadline, for the way back
_FEATURES = (
    requests.WORD_CONFIDENCE,
    requests.WORD_TIMES,
    requests.SPEAKERS,
    requests.PUNCTUATION,
    requests.PHRASES,
)


class GoogleEngine:
    """Asks Recognize for each window of speech, so that silence is not paid for and no bucket is needed.

    Warming up loads the client library and the credentials. A refusal that is about the set-up (credentials, project,
    recognizer) is the engine's `problem` until a request succeeds; requests go on, so that mending it is enough. A
    feature that the model refuses is not asked for again.
    """

    def __init__(self, settings: GoogleSettings) -> None:
        self._settings = settings
        self._traits = traits_of(settings.model)
        self.capabilities = SpeechCapabilities(
            detects_language=self._traits.detects_language,
            word_times=settings.word_times and self._traits.word_times,
            streams=True,
        )
        self._quota = RequestQuota(settings.requests_at_once, settings.requests_per_minute)
        self._without: frozenset[str] = frozenset()
        self._warming: asyncio.Task[None] | None = None
        self._client: Any = None  # a SpeechAsyncClient, once its library is loaded
        self._problem = "the client is being made"
        self.name = f"google/v2 {settings.model}"[:64]

    @property
    def is_free(self) -> bool:
        """Whether its prices are known to be 0."""
        settings = self._settings
        return settings.price_micros_per_minute == settings.dynamic_price_micros_per_minute == 0

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
        await self._ready()
        async with recording.prepared() as audio:
            result = EngineResult(
                self.name, recording.language, lanes=audio.lanes, speech_seconds=audio.speech_seconds
            )
            if not audio.utterances:
                return result
            heard = await self._all(recording, audio)
        return told(result, heard, self._settings.price_micros_per_minute)

    async def stream(self, sound: AsyncIterator[bytes], language: str) -> AsyncIterator[Segment]:
        """Give segments as they are final, over as many of Google's streams as it takes. Raises EngineError.

        `sound` comes as people speak: Google refuses what comes much faster.
        """
        await self._ready()

        async def begun(asked_sound: AsyncIterator[bytes]) -> Any:
            await self._quota.due()
            asked = RequestHints(language, without=self._without)
            ended = asyncio.Event()

            async def messages() -> AsyncIterator[Any]:
                from google.cloud import speech_v2  # noqa: PLC0415

                yield requests.stream_request(self._settings, asked)
                # A refusal is lost in grpc.aio if a message is sent at the same moment.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), REFUSAL_SECONDS)
                async for piece in asked_sound:
                    yield speech_v2.StreamingRecognizeRequest(audio=piece)

            call = await self._client.streaming_recognize(messages(), retry=None, timeout=None)
            call.add_done_callback(lambda _: ended.set())
            return call

        def mended(error: BaseException) -> bool:
            self._note(error)
            feature = refused_feature(error, frozenset(_FEATURES))
            return bool(feature) and self._drop(feature)

        async with contextlib.aclosing(SoundStream(sound, begun, mended).segments()) as found:
            async for segment in found:
                self._problem = ""
                yield segment

    async def _ready(self) -> None:
        """Wait for the client; where it could not be made, try once more: the credentials may be there by now."""
        if self._client is None and (self._warming is None or self._warming.done()):
            self._warming = asyncio.create_task(self._warm())
        if self._warming is not None:
            await asyncio.wait([self._warming])
        if self._client is None:
            raise EngineError(NOT_READY, self._problem, transient=True)

    def _asked(self, recording: EngineInput, lanes: int) -> RequestHints:
        """Return what is asked for about a recording; channels tell its speakers apart where there are two."""
        speakers = self._settings.speakers if lanes == 1 else 0
        return RequestHints(recording.language, recording.phrases, speakers)

    async def _all(self, recording: EngineInput, audio: PreparedAudio) -> list[HeardWindow]:
        packed = windows.packed(audio.utterances, LONGEST_SECONDS)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(recording, audio, window)) for window in packed]
        except* EngineError as failures:
            error = cast(EngineError, failures.exceptions[0])
            error.usage = usage_of(
                [task.result() for task in tasks if _has_result(task)], self._settings.price_micros_per_minute
            )
            raise error from None
        return [task.result() for task in tasks]

    async def _one(self, recording: EngineInput, audio: PreparedAudio, window: Window) -> HeardWindow:
        async with self._quota.turn(recording.tenant_id, audio.scratch.name, recording.priority):
            content = await asyncio.to_thread(sound_of, audio, window)
            answer = await self._featured(
                self._asked(recording, audio.lanes),
                lambda asked: self._client.recognize(
                    request=requests.recognize_request(self._settings, asked, content),
                    retry=None,
                    timeout=REQUEST_SECONDS,
                ),
            )
        return answers.heard(window, answer)

    async def _featured(self, asked: RequestHints, ask: Callable[[RequestHints], Awaitable[T]]) -> T:
        """Ask, once more without each feature that the model refuses. Raises EngineError."""
        while True:
            without = self._without
            try:
                return await self._called(partial(ask, replace(asked, without=without)))
            except _FeatureRefused as refused:
                if not self._drop(refused.feature) and refused.feature in without:
                    raise refused.error from None

    def _drop(self, feature: str) -> bool:
        """Ask for a feature no more; whether it was asked for so far."""
        if feature in self._without:
            return False
        log.warning("speech_feature_refused", engine=self.name, feature=feature)
        self._without |= {feature}
        return True

    def _note(self, error: BaseException) -> None:
        """Make the engine's problem of an error that is about the set-up."""
        if is_of_the_set_up(error):
            self._note_problem(f"Google refuses: {error}")

    def _note_problem(self, told: str) -> None:
        if not self._problem:
            self._problem = told.splitlines()[0][:300]
            log.error("speech_engine_refused", engine=self.name, problem=self._problem)

    async def _called(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call Google, again while that may help. Raises EngineError, and _FeatureRefused."""

        async def tried() -> T:
            await self._quota.due()
            return await call()

        try:
            answer: T = await retrying(self._policy())(tried)
        except Exception as error:
            self._note(error)
            told = engine_error(error)
            if feature := refused_feature(error, frozenset(_FEATURES)):
                raise _FeatureRefused(feature, told) from None
            raise told from None
        self._problem = ""
        return answer

    def _policy(self) -> RetryPolicy:
        """Return how long Google is asked again: within the caller's deadline."""
        patience = self._settings.patience_seconds
        rpc = current_rpc()
        remaining = rpc.remaining_seconds() if rpc is not None else None
        if remaining is not None:
            patience = min(patience, max(0.0, remaining - _ANSWER_SECONDS))
        return RetryPolicy(None, 0.5, 10.0, patience, is_passing, pause_of)

    async def _warm(self) -> None:
        try:
            found = await asyncio.to_thread(_credentials, self._settings)
            self._client = _make_client(self._settings, found)
        except Exception as error:  # nobody awaits this task
            problem = f"the client cannot be made: {error}".splitlines()[0][:300]
            if problem != self._problem:
                log.error("speech_engine_not_usable", engine=self.name, problem=problem)
            self._problem = problem
            return
        self._problem = ""


def _credentials(settings: GoogleSettings) -> Any:
    """Import the client library and look for the credentials, which takes a second and may ask the network."""
    from google.cloud import speech_v2  # noqa: F401, PLC0415

    if settings.endpoint.startswith("http://"):
        return None
    return credentials(settings.quota_project)


def _make_client(settings: GoogleSettings, found: Any) -> Any:
    """Make the client, whose channel is of the event loop that runs."""
    from google.api_core.client_options import ClientOptions  # noqa: PLC0415
    from google.cloud import speech_v2  # noqa: PLC0415
    from google.cloud.speech_v2.services.speech.transports import SpeechGrpcAsyncIOTransport  # noqa: PLC0415

    if settings.endpoint.startswith("http://"):
        transport: Any = SpeechGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(settings.host))
        return speech_v2.SpeechAsyncClient(transport=transport)
    options = ClientOptions(api_endpoint=settings.host)
    return speech_v2.SpeechAsyncClient(credentials=found, client_options=options)


class _FeatureRefused(Exception):
    """The model has not a feature that was asked for."""

    def __init__(self, feature: str, error: EngineError) -> None:
        super().__init__(feature)
        self.feature = feature
        self.error = error


def sound_of(audio: PreparedAudio, window: Window) -> bytes:
    """Return a window's sound as a FLAC file. For a thread: it reads and encodes."""
    spans = [(item.start, item.end) for item in window.utterances]
    return requests.flac(windows.samples(audio.lane(window.lane), spans))


def told(result: EngineResult, heard: list[HeardWindow], micros_per_minute: int) -> EngineResult:
    """Return a result with what was heard in its windows, and its price."""
    spoken = Counter[str]()
    for window in heard:
        if window.said:
            spoken[window.language] += 1
    detected = spoken.most_common(1)[0][0] if spoken else ""
    sure = [confidence for window in heard for confidence in window.confidences]
    doubtful = bool(sure) and sum(sure) / len(sure) < LOW_CONFIDENCE
    return replace(
        result,
        segments=joined(answers.segments(heard)),
        language=result.language or detected,
        unreliable="low_confidence" if doubtful else "",
        usage=usage_of(heard, micros_per_minute),
    )


def usage_of(heard: Sequence[HeardWindow], micros_per_minute: int) -> EngineUsage:
    """Return what windows cost; a price below 0 is not known."""
    billed = sum(window.billed_seconds for window in heard)
    cost = round(billed / 60 * max(0, micros_per_minute))
    return EngineUsage(billed, cost_micros=cost, unpriced=bool(heard) and micros_per_minute < 0)


def _has_result(task: asyncio.Task[HeardWindow]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
