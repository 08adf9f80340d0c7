"""A stand-in for an OpenAI-compatible endpoint: real HTTP over a socket, with answers that a test scripts."""

import asyncio
import contextlib
import json

from trunkline_ai.engines.openai.engine import OpenAiEngine
from trunkline_ai.engines.openai.settings import OpenAiSettings
from trunkline_ai.engines.prompted import PromptedEngine

from tests.standins.completing_ai import least

PATH = "/v1/chat/completions"


def events(text, finish="stop", *, pieces=3, usage=True, model="m-2"):
    """The body of a streamed answer, cut into deltas."""
    size = max(1, len(text) // pieces)
    deltas = [{"role": "assistant", "content": ""}]
    deltas += [{"content": text[i : i + size]} for i in range(0, len(text), size)]
    told = [{"model": model, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    told.append({"model": model, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        counted = {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150}
        told.append({"model": model, "choices": [], "usage": counted})
    return [f"data: {json.dumps(one)}\n\n" for one in told] + ["data: [DONE]\n\n"]


class Scripted:
    """One answer. `pauses` are the seconds before each piece; `cut` ends the connection without the body's end."""

    def __init__(self, pieces=(), status=200, *, kind="text/event-stream", headers=(), pauses=(), cut=False):
        self.pieces = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
        self.status = status
        self.headers = {"content-type": kind, **dict(headers)}
        self.pauses = list(pauses)
        self.cut = cut


def refusal(status, code="", message="no", **headers):
    body = json.dumps({"error": {"code": code, "message": message}})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Scripted([body], status, kind="application/json", headers=named)


class Endpoint:
    """Answers what its script says, then with the least value of the schema that it was asked for."""

    def __init__(self):
        self.script = []
        self.asked = []
        self.heads = []
        self.paths = []
        self.open = self.most_open = 0
        self.port = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def _usual(self, body):
        form = body.get("response_format", {}).get("json_schema")
        return Scripted(events(json.dumps(least(form["schema"])) if form else "{}"))

    async def serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.paths.append(head[0].split()[1])
                self.heads.append(headers)
                self.asked.append(body)
                self.open += 1
                self.most_open = max(self.most_open, self.open)
                try:
                    if not await self._answer(
                        writer, self.script.pop(0) if self.script else self._usual(body)
                    ):
                        break
                finally:
                    self.open -= 1
        writer.close()

    async def _answer(self, writer, answer):
        lines = [f"HTTP/1.1 {answer.status} X", "transfer-encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        for number, piece in enumerate(answer.pieces):
            if number < len(answer.pauses):
                await writer.drain()
                await asyncio.sleep(answer.pauses[number])
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
        if not answer.cut:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return not answer.cut


@contextlib.asynccontextmanager
async def endpoint():
    async with serving(Endpoint()) as it:
        yield it


@contextlib.asynccontextmanager
async def serving(it):
    """Serve an endpoint on a free port."""
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()


def settings(it, **more):
    return OpenAiSettings(**{"url": it.url, "model": "m-1", "patience_seconds": 5.0, **more})


@contextlib.asynccontextmanager
async def openai_model(**more):
    """The engine below the tasks, at an endpoint of its own."""
    priced = {"input_price_micros": 400_000, "output_price_micros": 1_600_000}
    async with endpoint() as it, OpenAiEngine(settings(it, **priced, **more)) as model:
        yield model


@contextlib.asynccontextmanager
async def openai_engine():
    """The engine with the tasks, at an endpoint of its own."""
    async with endpoint() as it, PromptedEngine(OpenAiEngine(settings(it))) as engine:
        yield engine
