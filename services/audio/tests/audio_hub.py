"""A stand-in of the model hub: what huggingface_hub asks for, on a real socket, requests kept."""

import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    def __init__(self):
        self.repositories = {}
        """Repository -> (commit, {name: bytes})."""
        self.lies = {}
        """Name of a file -> bytes that are sent in its place."""
        self.asked = []
        self.gate = None
        """An event: half of model.bin is sent before it is set, the rest after."""
        self.half = threading.Event()
        self.url = ""

    def keep(self, repository, files, commit=COMMIT):
        self.repositories[repository] = (commit, dict(files))

    def downloads(self, name):
        return sum(path.endswith(f"/{name}") for method, path in self.asked if method == "GET")


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self._answer()

        def do_GET(self):
            self._answer()

        def _answer(self):
            path = self.path.split("?")[0]
            hub.asked.append((self.command, path))
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
                self._info(*found.groups())
            elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^/]+)", path):
                self._file(*found.groups())
            else:
                self._none("EntryNotFound")

        def _there(self, repository, revision):
            if repository not in hub.repositories:
                self._none("RepoNotFound")
            elif revision not in {None, hub.repositories[repository][0]}:
                self._none("RevisionNotFound")
            else:
                return True
            return False

        def _info(self, repository, revision):
            if self._there(repository, revision):
                commit, files = hub.repositories[repository]
                siblings = [_sibling(name, data) for name, data in files.items()]
                body = json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode()
                self._send(body, {"Content-Type": "application/json"})

        def _file(self, repository, revision, name):
            if not self._there(repository, revision):
                return
            commit, files = hub.repositories[repository]
            if name not in files:
                self._none("EntryNotFound")
                return
            data = hub.lies.get(name, files[name])
            headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
            self._send(data, headers, slow=name == "model.bin")

        def _none(self, code):
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, body, headers, slow=False):
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            half = len(body) // 2 if slow and hub.gate else len(body)
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body[:half])
                if half < len(body):
                    hub.half.set()
                    hub.gate.wait(30)
                    self.wfile.write(body[half:])

    return Handler


def _sibling(name, data):
    # As on the real one, only large files are in LFS, with a published digest.
    digest = hashlib.sha256(data).hexdigest()
    lfs = {"lfs": {"size": len(data), "sha256": digest, "pointerSize": 134}} if name == "model.bin" else {}
    return {"rfilename": name, "size": len(data), "blobId": digest[:40], **lfs}


@contextlib.contextmanager
def standin():
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        if hub.gate:
            hub.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
