"""A local stand-in of the providers' recording APIs: CallRail's recording.json and Twilio's Recordings.

It asks for the credentials that the real ones ask for, and may say for a while that a recording is not there yet.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

try:
    from uvloop import new_event_loop
except ImportError:  # uvloop has no wheel everywhere
    from asyncio import new_event_loop  # type: ignore[assignment]

_CALLRAIL = re.compile(r"/v3/a/[^/]+/calls/([^/]+)/recording\.json")
_TWILIO = re.compile(r"/2010-04-01/Accounts/([^/]+)/Recordings/([^/.]+)\.(?:wav|mp3)")
_OWN_BYTES = 8
_FILE = re.compile(r"/files/([^/]+)")


@dataclass
class RecordingServer:
    """Start it, register recordings, stop it. Thread-safe enough for tests: registrations come before requests."""

    files: dict[str, Path] = field(default_factory=dict)  # the provider's id -> the file
    not_ready: dict[str, int] = field(default_factory=dict)  # how many more times an id is answered 404
    retry_after: int | None = None  # the seconds after which such an answer says to come again
    tokens: set[str] = field(default_factory=set)  # CallRail API keys that are right
    accounts: dict[str, str] = field(default_factory=dict)  # Twilio account -> auth token
    requests: list[str] = field(default_factory=list)
    seconds: float = 0.0  # what a file takes to come
    each_differs: bool = (
        False  # the last samples of a PCM file are each call's own: equal sound is heard only once
    )

    def __enter__(self) -> RecordingServer:
        """Serve on a free loopback port, from a thread of its own."""
        self._loop = new_event_loop()
        serving = self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self._server = cast(asyncio.Server, self._loop.run_until_complete(serving))
        self._port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop serving."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self._port}"


class _Connection(asyncio.Protocol):
    """Answers GETs, one after another; by hand, since benches count what it costs."""

    def __init__(self, recordings: RecordingServer) -> None:
        self.recordings = recordings
        self.read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.read += data
        while b"\r\n\r\n" in self.read:
            head, self.read = self.read.split(b"\r\n\r\n", 1)
            request, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            self._get(request.split()[1].split("?")[0], headers)

    def _get(self, path: str, headers: dict[str, str]) -> None:
        self.recordings.requests.append(path)
        said = headers.get("authorization", "")
        if match := _CALLRAIL.fullmatch(path):
            if said.removeprefix("Token token=").strip('"') not in self.recordings.tokens:
                return self._answer(401, b"{}")
            if self._waits(match[1]):
                return self._not_yet()
            return self._answer(200, json.dumps({"url": f"{self.recordings.url}/files/{match[1]}"}).encode())
        if match := _TWILIO.fullmatch(path):
            account = match[1]
            basic = base64.b64encode(f"{account}:{self.recordings.accounts.get(account)}".encode()).decode()
            if said != f"Basic {basic}":
                return self._answer(401, b"")
            if self._waits(match[2]):
                return self._not_yet()
            return self._file(match[2])
        if match := _FILE.fullmatch(path):
            return self._file(match[1])
        return self._answer(404, b"")

    def _waits(self, key: str) -> bool:
        left = self.recordings.not_ready.get(key, 0)
        self.recordings.not_ready[key] = max(0, left - 1)
        return left > 0 or key not in self.recordings.files

    def _not_yet(self) -> None:
        seconds = self.recordings.retry_after
        self._answer(404, b"{}", more="" if seconds is None else f"retry-after: {seconds}\r\n")

    def _file(self, key: str) -> None:
        path = self.recordings.files.get(key)
        if path is None:
            return self._answer(404, b"")
        body = path.read_bytes()
        if self.recordings.each_differs:
            own = hashlib.blake2b(key.removeprefix("CAL").encode(), digest_size=_OWN_BYTES).digest()
            body = body[:-_OWN_BYTES] + own
        if self.recordings.seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(self.recordings.seconds, self._answer, 200, body, "application/octet-stream")
            return None
        return self._answer(200, body, "application/octet-stream")

    def _answer(
        self, status: int, body: bytes, content_type: str = "application/json", more: str = ""
    ) -> None:
        head = f"HTTP/1.1 {status} .\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        self.transport.write(head.encode() + body)
