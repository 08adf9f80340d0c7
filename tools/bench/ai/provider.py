"""Models that answer at once: in this process, and behind an OpenAI-compatible endpoint that can fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

from trunkline_ai.engines.base import Completion, LanguageCapabilities, Prompt
from trunkline_runtime.engines.base import EngineUsage

from tools.bench.ai.mix import labelled


def answer_of(data: str, schema: Mapping[str, Any]) -> str:
    """The least that keeps to the schema; a robocall's for what is nearly a labelled robocall."""
    value = {
        **_least(schema),
        "intent": "other",
        "summary": "Somebody said something, and wants to be called back.",
    }
    if _words(data) & _robocalls():
        value |= {"intent": "robocall", "spam_score": 0.95}
    return json.dumps(value)


def _least(schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "object":
        return {name: _least(inner) for name, inner in schema["properties"].items()}
    return {"array": [], "string": "", "number": 0.0, "integer": 0}[schema["type"]]


def _words(data: str) -> set[str]:
    words = " ".join(turn["text"] for turn in json.loads(data)["turns"]).split()
    return {" ".join(words[at : at + 5]) for at in range(len(words) - 4)}


def _robocalls() -> set[str]:
    if not _known:
        for one in labelled():
            if one.intent == "robocall":
                turns = [{"text": line.partition(": ")[2]} for line in one.text.split("\n")]
                _known.update(_words(json.dumps({"turns": turns})))
    return _known


_known: set[str] = set()


class InstantModel:
    """A model that answers without waiting."""

    name = "instant/standin"
    problem = ""
    capabilities = LanguageCapabilities()

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End."""

    async def complete(self, prompt: Prompt, schema: Mapping[str, Any]) -> Completion:
        """Answer."""
        usage = EngineUsage(input_tokens=900, output_tokens=150, cost_micros=600)
        return Completion(self.name, answer_of(prompt.data, schema), usage=usage)


class Provider:
    """An endpoint; `failing` is the share of its requests that it refuses, half of them as too many."""

    def __init__(self, *, failing: float = 0.0, seconds: float = 0.0, seed: int = 1) -> None:
        self._failing = failing
        self._seconds = seconds
        self._rng = random.Random(seed)
        self._server: asyncio.Server | None = None
        self.answered: Counter[str] = Counter()
        """How often each conversation was answered, and so paid for."""
        self.failed = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = int(head.partition("content-length: ")[2].split("\r\n")[0])
                asked = json.loads(await reader.readexactly(length))
                status, body = await self._answer(asked)
                lines = [
                    f"HTTP/1.1 {status} X",
                    "content-type: application/json",
                    f"content-length: {len(body)}",
                ]
                writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
                await writer.drain()
        writer.close()

    async def _answer(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        fails = self._rng.random() < self._failing
        await asyncio.sleep(self._seconds)
        if fails:
            self.failed += 1
            return (429 if self.failed % 2 else 503), b'{"error": {"message": "try again"}}'
        data = asked["messages"][1]["content"]
        self.answered[data] += 1
        text = answer_of(data, asked["response_format"]["json_schema"]["schema"])
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 900, "completion_tokens": 150, "total_tokens": 1050}
        return 200, json.dumps({"model": "standin", "choices": [choice], "usage": usage}).encode()
