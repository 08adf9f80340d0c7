"""A provider's file server for tests: real sockets, answers set per path, requests kept."""

import asyncio
import contextlib
from dataclasses import dataclass, field


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict = field(default_factory=dict)
    cut: bool = False
    """Ends the connection in the middle of the body."""


class Provider:
    def __init__(self):
        self.answers = {}
        self.requests = []
        self.port = 0

    def url(self, path, host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            path = head[0].split()[1]
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
            self.requests.append((path, headers))
            answer = self.answers.get(path.split("?")[0], Answer(404))
            if callable(answer):
                answer = await answer()
            lines = [f"HTTP/1.1 {answer.status} X", "Connection: close"]
            lines += [f"{k}: {v}" for k, v in answer.headers.items()]
            if "Transfer-Encoding" not in answer.headers:
                lines.append(f"Content-Length: {len(answer.body)}")
            body = answer.body[: len(answer.body) // 2] if answer.cut else answer.body
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def provider():
    it = Provider()
    server = await asyncio.start_server(it._serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
