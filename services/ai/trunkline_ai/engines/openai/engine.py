"""The engine `openai`: chat completions over HTTP, streamed, held to the schema where the endpoint can."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from trunkline_runtime.engines.base import NOT_READY, EngineError

from trunkline_ai.engines.base import Completion, Finish, LanguageCapabilities, Prompt
from trunkline_ai.engines.openai.failures import engine_error
from trunkline_ai.engines.openai.settings import OBJECT, SCHEMA, OpenAiSettings
from trunkline_ai.engines.openai.stream import BodyBound, StreamedAnswer, read_events, read_whole
from trunkline_ai.engines.remote import TIMEOUT, UNREACHABLE, RemoteAsker, typical_price, usage_of

if TYPE_CHECKING:
    import httpx

_CONNECT_SECONDS = 10.0
_MOST_ERROR_BYTES = 64 * 1024
_MOST_ERROR_PIECES = 1_000


class OpenAiEngine:
    """Asks one model of one endpoint. The conversation is the user's message, the instructions the system's.

    Warming up loads the HTTP client; the endpoint is not asked, since each question may cost.
    """

    def __init__(self, settings: OpenAiSettings) -> None:
        self._settings = settings
        self.name = f"openai/{settings.model}"[:64]
        self.capabilities = LanguageCapabilities(
            most_characters=settings.most_characters,
            inside=settings.inside,
            queues=True,
            price_micros=typical_price(settings),
        )
        self._asker = RemoteAsker(self.name, settings)
        self._client: httpx.AsyncClient | None = None

    @property
    def problem(self) -> str:
        """Why the endpoint refuses every request; empty as far as is known."""
        return self._asker.problem

    @property
    def is_free(self) -> bool:
        """Whether its price is known to be 0."""
        return self._settings.input_price_micros == self._settings.output_price_micros == 0

    async def __aenter__(self) -> Self:
        """Make the HTTP client."""
        import httpx  # noqa: PLC0415 -- only where an endpoint is asked

        seconds = self._settings.first_token_seconds
        self._client = httpx.AsyncClient(
            headers=_headers(self._settings.key),
            timeout=httpx.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds), pool=None),
            limits=httpx.Limits(max_connections=self._settings.requests_at_once, keepalive_expiry=30.0),
            follow_redirects=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def complete(self, prompt: Prompt, schema: Mapping[str, Any]) -> Completion:
        """Answer a prompt. Raises EngineError."""
        body = self._body(prompt, schema)
        return await self._asker.ask(prompt, lambda: self._once(body))

    async def _once(self, body: bytes) -> Completion:
        """Ask once. An answer is given up when its time is over or nothing comes: what was paid for it is not known."""
        import httpx  # noqa: PLC0415 -- as above

        answer = StreamedAnswer()
        try:
            async with asyncio.timeout(self._settings.request_seconds):
                async with self._posted(body) as response:
                    await self._read(response, answer)
        except httpx.TimeoutException as error:
            raise EngineError(TIMEOUT, f"the endpoint: {type(error).__name__}", transient=True) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EngineError(UNREACHABLE, f"the endpoint: {type(error).__name__}", transient=True) from None
        except TimeoutError:
            seconds = self._settings.request_seconds
            raise EngineError(TIMEOUT, f"the answer took more than {seconds:g} s", transient=True) from None
        usage = usage_of(self._settings, answer.counted, len(body), answer.text)
        return Completion(self.name, _bare(answer.text), answer.finish or Finish.DONE, usage)

    @contextlib.asynccontextmanager
    async def _posted(self, body: bytes) -> AsyncIterator[httpx.Response]:
        if self._client is None:
            raise EngineError(NOT_READY, "the engine was not started", transient=True)
        url = f"{self._settings.url.rstrip('/')}/chat/completions"
        async with self._client.stream("POST", url, content=body) as response:
            if response.status_code != 200:
                told = await _beginning(response)
                raise engine_error(response.status_code, told, response.headers)
            yield response

    async def _read(self, response: httpx.Response, answer: StreamedAnswer) -> None:
        room = BodyBound(self._settings.most_output_tokens)
        # Raw: what is packed, which nobody asked for, may unpack to a thousand times its size.
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            await read_events(response.aiter_raw(), answer, self._settings.first_token_seconds, room)
            return
        body = bytearray()
        async for piece in response.aiter_raw():
            room.take(len(piece))
            body += piece
        read_whole(bytes(body), answer)

    def _body(self, prompt: Prompt, schema: Mapping[str, Any]) -> bytes:
        form = self._settings.answer_form
        instructions = prompt.instructions
        if form != SCHEMA:
            instructions += f"\n\nAnswer with JSON of this schema, and nothing else:\n{json.dumps(schema)}"
        asked: dict[str, Any] = {
            "model": self._settings.model,
            "messages": [
                {"role": "system", "content": instructions},
                {"role": "user", "content": prompt.data},
            ],
            "max_completion_tokens": self._settings.most_output_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if form == SCHEMA:
            named = {"name": prompt.name.replace(".", "_"), "schema": schema, "strict": True}
            asked["response_format"] = {"type": "json_schema", "json_schema": named}
        elif form == OBJECT:
            asked["response_format"] = {"type": "json_object"}
        return json.dumps(asked, ensure_ascii=False).encode("utf-8", "replace")


def _headers(key: str) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",  # what unpacks to a thousand times its size is not asked for
    }
    return headers | ({"authorization": f"Bearer {key}"} if key else {})


async def _beginning(response: httpx.Response) -> bytes:
    """Return the first bytes of an error; what comes after them is not read."""
    body = bytearray()
    pieces = 0
    async for piece in response.aiter_raw():
        body += piece
        pieces += 1
        if len(body) >= _MOST_ERROR_BYTES or pieces >= _MOST_ERROR_PIECES:
            break
    return bytes(body[:_MOST_ERROR_BYTES])


def _bare(text: str) -> str:
    """Take the fence away that models without a schema like to write around JSON."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") : -3].strip()
    return text
