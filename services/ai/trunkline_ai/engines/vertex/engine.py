"""The engine `vertex`: Gemini by the client library's PredictionService, streamed, its answers held to the schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import grpc.aio
from trunkline_runtime.engines.base import NOT_READY, EngineError
from trunkline_runtime.engines.google import code_of, credentials, is_of_the_set_up, is_passing, pause_of
from trunkline_runtime.observe import logs

from trunkline_ai.engines.base import Completion, Finish, LanguageCapabilities, Prompt
from trunkline_ai.engines.remote import (
    BLOCKED,
    QUOTA,
    REFUSED,
    TIMEOUT,
    TOO_LONG,
    UNREACHABLE,
    Counted,
    RemoteAsker,
    typical_price,
    usage_of,
)
from trunkline_ai.engines.vertex.settings import VertexSettings

log = logs.get_logger(__name__)

_FINISHES = {
    "STOP": Finish.DONE,
    "MAX_TOKENS": Finish.CUT,
    "SAFETY": Finish.BLOCKED,
    "RECITATION": Finish.BLOCKED,
    "BLOCKLIST": Finish.BLOCKED,
    "PROHIBITED_CONTENT": Finish.BLOCKED,
    "SPII": Finish.BLOCKED,
    "MODEL_ARMOR": Finish.BLOCKED,
}
_OF_THE_LENGTH = ("token count", "exceeds the maximum number of tokens", "input is too long")
_KNOWN = frozenset({
    "SERVICE_DISABLED", "BILLING_DISABLED", "API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "CONSUMER_INVALID",
    "CONSUMER_SUSPENDED", "USER_PROJECT_DENIED", "IAM_PERMISSION_DENIED", "ACCESS_TOKEN_EXPIRED",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "RATE_LIMIT_EXCEEDED", "RESOURCE_QUOTA_EXCEEDED", "SECURITY_POLICY_VIOLATED",
})  # fmt: skip
"""Reasons that may be logged."""
_MOST_CHARACTERS = 1_000_000
"""Of an answer, with its thoughts."""
_MOST_CHUNKS = 40_000
_MOST_THINKING = 32_768
"""Tokens of a model that thinks as much as it likes."""


class VertexEngine:
    """Asks one model. The conversation is the user's content, the instructions the system's.

    Warming up loads the client library and the credentials, in the background; requests wait for it.
    """

    def __init__(self, settings: VertexSettings) -> None:
        self._settings = settings
        self.name = f"vertex/{settings.model}"[:64]
        self.capabilities = LanguageCapabilities(
            most_characters=settings.most_characters,
            queues=True,
            price_micros=typical_price(settings),
        )
        self._asker = RemoteAsker(self.name, settings)
        self._client: Any = None  # a PredictionServiceAsyncClient, once its library is loaded
        self._warming: asyncio.Task[None] | None = None
        self._unready = "the client is being made"

    @property
    def problem(self) -> str:
        """Why it cannot answer."""
        return self._unready or self._asker.problem

    @property
    def is_free(self) -> bool:
        """Whether its price is known to be 0."""
        return self._settings.input_price_micros == self._settings.output_price_micros == 0

    async def __aenter__(self) -> Self:
        """Begin to load the client library; returns at once."""
        self._warming = asyncio.create_task(self._warm())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the channel."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        if self._client is not None:
            await self._client.transport.close()

    async def complete(self, prompt: Prompt, schema: Mapping[str, Any]) -> Completion:
        """Answer a prompt. Raises EngineError."""
        await self._ready()
        request = self._request(prompt, schema)
        return await self._asker.ask(prompt, lambda: self._once(request))

    async def _ready(self) -> None:
        """Wait for the client; where it could not be made, try once more: the credentials may be there by now."""
        if self._client is None and (self._warming is None or self._warming.done()):
            self._warming = asyncio.create_task(self._warm())
        if self._warming is not None:
            await asyncio.wait([self._warming])
        if self._client is None:
            raise EngineError(NOT_READY, self._unready, transient=True)

    async def _warm(self) -> None:
        try:
            found = await asyncio.to_thread(_found, self._settings)
            self._client = _make_client(self._settings, found)
        except Exception as error:  # nobody awaits this task
            problem = _line(f"the client cannot be made: {error}")
            if problem != self._unready:
                log.error("language_engine_not_usable", engine=self.name, problem=problem)
            self._unready = problem
            return
        self._unready = ""

    def _request(self, prompt: Prompt, schema: Mapping[str, Any]) -> Any:
        from google.cloud import aiplatform_v1 as vertex  # noqa: PLC0415 -- a second, only where Vertex is asked

        thinking: dict[str, Any] = {}
        if self._settings.thinking_tokens >= 0:
            thinking["thinking_config"] = vertex.GenerationConfig.ThinkingConfig(
                thinking_budget=self._settings.thinking_tokens
            )
        return vertex.GenerateContentRequest(
            model=self._settings.model_name,
            system_instruction=vertex.Content(parts=[vertex.Part(text=prompt.instructions)]),
            contents=[vertex.Content(role="user", parts=[vertex.Part(text=_sendable(prompt.data))])],
            generation_config=vertex.GenerationConfig(
                temperature=0.0,
                max_output_tokens=self._settings.most_output_tokens,
                response_mime_type="application/json",
                response_json_schema=dict(schema),
                **thinking,
            ),
        )

    async def _once(self, request: Any) -> Completion:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.request_seconds):
                call = await self._opened(request)
                try:
                    text, finish, counted = await self._read(aiter(call))
                finally:
                    call.cancel()  # of one that has ended, nothing
        except TimeoutError:
            seconds = settings.request_seconds
            raise EngineError(TIMEOUT, f"the answer took more than {seconds:g} s", transient=True) from None
        except EngineError:
            raise
        except Exception as error:
            raise engine_error(error) from None
        sent = type(request).pb(request).ByteSize()
        thinking = settings.thinking_tokens if settings.thinking_tokens >= 0 else _MOST_THINKING
        return Completion(self.name, text, finish, usage_of(settings, counted, sent, text, thinking))

    async def _opened(self, request: Any) -> Any:
        """Send a request. The client waits for the head of the answer, which may come with its first piece only.

        Raises EngineError and what the client raises.
        """
        settings = self._settings
        try:
            async with asyncio.timeout(settings.first_token_seconds):
                return await self._client.stream_generate_content(
                    request=request, retry=None, timeout=settings.request_seconds
                )
        except TimeoutError:
            raise _silence(settings.first_token_seconds) from None

    async def _read(self, chunks: AsyncIterator[Any]) -> tuple[str, Finish, Counted]:
        """Read a stream to its end. Raises EngineError and what the client raises."""
        pieces: list[str] = []
        finish: Finish | None = None
        read = wrote = length = came = 0
        most = _MOST_CHUNKS + self._settings.most_output_tokens  # each token may come in one of its own
        idle = self._settings.first_token_seconds
        while True:
            try:
                async with asyncio.timeout(idle):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise _silence(idle) from None
            usage = chunk.usage_metadata
            read = usage.prompt_token_count or read
            wrote = (usage.candidates_token_count + usage.thoughts_token_count) or wrote
            if chunk.prompt_feedback.block_reason:
                finish = Finish.BLOCKED
            for candidate in list(chunk.candidates)[:1]:
                parts = candidate.content.parts
                pieces += [part.text for part in parts if not part.thought]
                length += sum(len(part.text) for part in parts)
                if candidate.finish_reason:
                    finish = _FINISHES.get(candidate.finish_reason.name, Finish.DONE)
            came += 1
            if length > _MOST_CHARACTERS or came > most:
                raise EngineError(UNREACHABLE, "Google's answer does not end", transient=True)
        if finish is None:
            raise EngineError(UNREACHABLE, "Google broke off in the middle of an answer", transient=True)
        return "".join(pieces), finish, Counted(max(0, read), max(0, wrote))


def engine_error(error: Exception) -> EngineError:
    """Return what the service raises for an error of the client library; for the reasons see engines/remote.py.

    Google's message may repeat what it was sent: nobody is told it.
    """
    message = str(error).casefold()
    code = code_of(error)
    if code is None and is_of_the_set_up(error):  # of the credentials: nothing was sent yet
        return EngineError(NOT_READY, _line(f"Google refuses: {error}"), transient=True)
    if code is None:
        return EngineError(UNREACHABLE, type(error).__name__, transient=True)
    reason = getattr(error, "reason", None)
    text = f"Google answered {code.name}" + (f": {reason}" if reason in _KNOWN else "")
    if is_of_the_set_up(error):
        return EngineError(NOT_READY, text, transient=True)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return EngineError(QUOTA, text, transient=True, retry_after=pause_of(error) or None)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return EngineError(TIMEOUT, text, transient=True)
    if is_passing(error):
        return EngineError(UNREACHABLE, text, transient=True, retry_after=pause_of(error) or None)
    if any(word in message for word in _OF_THE_LENGTH):
        return EngineError(TOO_LONG, "the conversation is longer than the model reads", transient=False)
    if "blocked" in message or "safety" in message:
        return EngineError(BLOCKED, "Google refuses this content", transient=False)
    return EngineError(REFUSED, text, transient=False, of_content=False)


def _silence(seconds: float) -> EngineError:
    return EngineError(TIMEOUT, f"nothing came from Google for {seconds:g} s", transient=True)


def _line(text: str) -> str:
    return " ".join(text[:1_200].split())[:300]


def _sendable(text: str) -> str:
    """Return a text without halves of characters, which no message takes."""
    return text.encode("utf-8", "replace").decode()


def _found(settings: VertexSettings) -> Any:
    """Import the client library and look for the credentials, which takes a second and may ask the network."""
    from google.cloud import aiplatform_v1  # noqa: F401, PLC0415

    if settings.endpoint.startswith("http://"):
        return None
    return credentials(settings.quota_project)


def _make_client(settings: VertexSettings, found: Any) -> Any:
    """Make the client, whose channel is of the event loop that runs."""
    from google.api_core.client_options import ClientOptions  # noqa: PLC0415
    from google.cloud import aiplatform_v1 as vertex  # noqa: PLC0415
    from google.cloud.aiplatform_v1.services.prediction_service.transports.grpc_asyncio import (  # noqa: PLC0415
        PredictionServiceGrpcAsyncIOTransport,
    )

    if settings.endpoint.startswith("http://"):
        channel = grpc.aio.insecure_channel(settings.host)
        transport: Any = PredictionServiceGrpcAsyncIOTransport(channel=channel)
        return vertex.PredictionServiceAsyncClient(transport=transport)
    return vertex.PredictionServiceAsyncClient(
        credentials=found, client_options=ClientOptions(api_endpoint=settings.host)
    )
