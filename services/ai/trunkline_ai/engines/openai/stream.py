"""Reading a streamed chat completion: server-sent events, each a piece of the answer."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

from trunkline_runtime.engines.base import EngineError

from trunkline_ai.engines.base import Finish
from trunkline_ai.engines.remote import TIMEOUT, UNREACHABLE, Counted

_FINISHES = {
    "stop": Finish.DONE,
    "length": Finish.CUT,
    "content_filter": Finish.BLOCKED,
}
_END = "[DONE]"
_A_BREATH = 200


class StreamedAnswer:
    """What has come of an answer."""

    def __init__(self) -> None:
        self.finish: Finish | None = None
        self.counted = Counted()
        self._pieces: list[str] = []

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
            self._pieces.append(piece)
        if (reason := choice.get("finish_reason")) and self.finish is not Finish.BLOCKED:
            self.finish = _FINISHES.get(_text(reason), Finish.DONE)


class BodyBound:
    """How much of the body of an answer is read: one of so many tokens has an end."""

    def __init__(self, most_tokens: int) -> None:
        """Each token may come in an event of its own."""
        self._bytes = 256 * 1024 + 1024 * most_tokens
        self._parts = 10_000 + 8 * most_tokens

    def take(self, size: int, parts: int = 1) -> None:
        """Read so many bytes more, in pieces and lines. Raises EngineError."""
        self._bytes -= size
        self._parts -= parts
        if self._bytes < 0 or self._parts < 0:
            raise _malformed("the answer does not end")


async def read_events(
    pieces: AsyncIterator[bytes], answer: StreamedAnswer, idle_seconds: float, room: BodyBound
) -> None:
    """Read a body into an answer until it is whole. Raises EngineError: TIMEOUT when nothing comes for so long."""
    iterator = _events(pieces, room)
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                data = await anext(iterator)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise EngineError(
                TIMEOUT, f"nothing came from the endpoint for {idle_seconds:g} s", transient=True
            ) from None
        if data.strip() == _END:
            break
        if data:
            answer.add(_parsed(data))
    if answer.finish is None:
        raise EngineError(UNREACHABLE, "the endpoint broke off in the middle of an answer", transient=True)


async def _events(pieces: AsyncIterator[bytes], room: BodyBound) -> AsyncIterator[str]:
    """Give the data of each event of a body, and "" for lines that hold none: something came."""
    rest = bytearray()
    taken = itertools.count(1)

    async def breath() -> None:
        # What is here already is read without waiting: others are to have their turns.
        if next(taken) % _A_BREATH == 0:
            await asyncio.sleep(0)

    async for piece in pieces:
        *lines, tail = piece.split(b"\n")
        room.take(len(piece), 1 + len(lines))
        await breath()
        if not lines:
            rest += tail
            continue
        lines[0] = bytes(rest) + lines[0]
        rest = bytearray(tail)
        found = [line for line in lines if line.startswith(b"data:")]
        for line in found or [b""]:
            await breath()
            yield _data(line)
    if rest.startswith(b"data:"):
        yield _data(bytes(rest))


def _data(line: bytes) -> str:
    return line.removeprefix(b"data:").decode("utf-8", "replace").rstrip("\r")


def read_whole(body: bytes, answer: StreamedAnswer) -> None:
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
