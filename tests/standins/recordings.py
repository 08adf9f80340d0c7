"""A local stand-in of the providers' recording APIs: CallRail's recording.json and Twilio's Recordings.

It asks for the credentials that the real ones ask for, and may say for a while that a recording is not there yet.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_CALLRAIL = re.compile(r"/v3/a/[^/]+/calls/([^/]+)/recording\.json")
_TWILIO = re.compile(r"/2010-04-01/Accounts/([^/]+)/Recordings/([^/.]+)\.(?:wav|mp3)")
_FILE = re.compile(r"/files/([^/]+)")


@dataclass
class Recordings:
    """Start it, register recordings, stop it. Thread-safe enough for tests: registrations come before requests."""

    files: dict[str, Path] = field(default_factory=dict)  # the provider's id -> the file
    not_ready: dict[str, int] = field(default_factory=dict)  # how many more times an id is answered 404
    tokens: set[str] = field(default_factory=set)  # CallRail API keys that are right
    accounts: dict[str, str] = field(default_factory=dict)  # Twilio account -> auth token
    requests: list[str] = field(default_factory=list)
    seconds: float = 0.0  # what a file takes to come

    def __enter__(self) -> Recordings:
        """Serve on a free loopback port."""
        handler = type("Handler", (_Handler,), {"recordings": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet: a client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    recordings: Recordings

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.recordings.requests.append(path)
        if match := _CALLRAIL.fullmatch(path):
            token = self.headers.get("authorization", "").removeprefix("Token token=").strip('"')
            if token not in self.recordings.tokens:
                return self._answer(401, b"{}")
            if self._waits(match[1]):
                return self._answer(404, b"{}")
            return self._answer(200, json.dumps({"url": f"{self.recordings.url}/files/{match[1]}"}).encode())
        if match := _TWILIO.fullmatch(path):
            account = match[1]
            basic = base64.b64encode(f"{account}:{self.recordings.accounts.get(account)}".encode()).decode()
            if self.headers.get("authorization") != f"Basic {basic}":
                return self._answer(401, b"")
            if self._waits(match[2]):
                return self._answer(404, b"")
            return self._file(match[2])
        if match := _FILE.fullmatch(path):
            return self._file(match[1])
        return self._answer(404, b"")

    def _waits(self, key: str) -> bool:
        left = self.recordings.not_ready.get(key, 0)
        self.recordings.not_ready[key] = max(0, left - 1)
        return left > 0 or key not in self.recordings.files

    def _file(self, key: str) -> None:
        path = self.recordings.files.get(key)
        if path is None:
            return self._answer(404, b"")
        time.sleep(self.recordings.seconds)
        return self._answer(200, path.read_bytes(), "application/octet-stream")

    def _answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet: `requests` is the log."""
