"""Reading a streamed chat completion: server-sent events, each a piece of the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from trunkline_runtime.engines.base import EngineError

from trunkline_ai.engines.base import Finish
from trunkline_ai.engines.remote import TIMEOUT, UNREACHABLE, Counted

_MOST_CHARACTERS = 1_000_000
"""Of an answer: the provider counts tokens, and a broken one counts nothing."""
_FINISHES = {
    "stop": Finish.DONE,
    "length": Finish.CUT,
    "content_filter": Finish.BLOCKED,
}
_END = "[DONE]"


class Answer:
    """What has come of an answer."""

    def __init__(self) -> None:
        self.finish: Finish | None = None
        self.counted = Counted()
        self._pieces: list[str] = []
        self._length = 0

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._pieces)

    def add(self, event: Any) -> None:
        """Take one event of the stream. Raises EngineError."""
        if not isinstance(event, dict):
            raise _malformed("an event is no object")
        if event.get("error"):
            raise EngineError(UNREACHABLE, "the endpoint broke off with an error", transient=True)
        if isinstance(usage := event.get("usage"), dict):
            self.counted = Counted(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        choices = event.get("choices")
        for choice in choices[:1] if isinstance(choices, list) else ():
            self._add_choice(choice if isinstance(choice, dict) else {})

    def _add_choice(self, choice: dict[str, Any]) -> None:
        # An endpoint that does not stream answers with the whole message.
        delta = choice.get("delta") or choice.get("message")
        delta = delta if isinstance(delta, dict) else {}
        if delta.get("refusal"):
            self.finish = Finish.BLOCKED
        if piece := _text(delta.get("content")):
            self._length += len(piece)
            if self._length > _MOST_CHARACTERS:
                raise _malformed("the answer does not end")
            self._pieces.append(piece)
        if (reason := choice.get("finish_reason")) and self.finish is not Finish.BLOCKED:
            self.finish = _FINISHES.get(str(reason), Finish.DONE)


async def read_events(pieces: AsyncIterator[bytes], answer: Answer, idle_seconds: float) -> None:
    """Read a body into an answer until it is whole. Raises EngineError: TIMEOUT when nothing comes for so long."""
    iterator = _lines(pieces)
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                line = await anext(iterator)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise EngineError(
                TIMEOUT, f"nothing came from the endpoint for {idle_seconds:g} s", transient=True
            ) from None
        field, _, data = line.partition(":")
        if field != "data":
            continue  # an empty line, a comment, another field
        if data.strip() == _END:
            break
        answer.add(_parsed(data))
    if answer.finish is None:
        raise EngineError(UNREACHABLE, "the endpoint broke off in the middle of an answer", transient=True)


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Give the lines of a body; one that does not end is refused."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip("\r")
        if len(rest) > _MOST_CHARACTERS:
            raise _malformed("a line does not end")
    if rest:
        yield rest.decode("utf-8", "replace")


def read_whole(body: bytes, answer: Answer) -> None:
    """Read the body of an endpoint that does not stream. Raises EngineError."""
    answer.add(_parsed(body.decode("utf-8", "replace")))
    if answer.finish is None:
        raise _malformed("there is no answer in it")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _malformed("an event is not JSON") from None


def _malformed(what: str) -> EngineError:
    return EngineError(UNREACHABLE, f"what the endpoint sent cannot be read: {what}", transient=True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
