"""The ASGI application of recordings' bytes, before the one of all other requests under `/v1`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import grpc
from trunkline.audio.v1 import recording_service_pb2
from trunkline_runtime.errors import FailedPrecondition, ResourceExhausted
from trunkline_runtime.identity.access import Rule
from trunkline_runtime.identity.callers import ANONYMOUS
from trunkline_runtime.identity.links import Link, LinkSigner
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe import logs, tracing
from trunkline_runtime.rpc import guard
from trunkline_runtime.rpc.call import request_id_of

from trunkline_gateway.api.allowances import Allowances, admitted
from trunkline_gateway.api.answered import ANSWERED, TOOK, count_from_zero
from trunkline_gateway.api.media.downloads import MediaDownloads
from trunkline_gateway.api.media.requests import MediaHttpRequest
from trunkline_gateway.api.media.uploads import MediaUploads
from trunkline_gateway.api.problems import Problems, problem
from trunkline_gateway.api.transcode.intake import Gone, headers_of, rated
from trunkline_gateway.api.transcode.streams import Streams
from trunkline_gateway.api.transcode.transcoder import Authenticate
from trunkline_gateway.edge.answers import Receive, Scope, Send
from trunkline_gateway.edge.front import AsgiApp
from trunkline_gateway.hooks.limits import Buckets

UPLOAD = "/trunkline.audio.v1.RecordingService/UploadRecording"
READ = "/trunkline.audio.v1.RecordingService/ReadRecording"
WRITE = "/trunkline.audio.v1.UploadService/WriteUpload"
SERVED = frozenset({UPLOAD, READ, WRITE})
"""The RPCs that are reached over HTTP without a google.api.http rule."""

_PATH = re.compile(r"/v1/tenants/([a-z0-9-]{2,40})/recordings(?:/([a-z0-9-]{2,40}):download|(:upload))")
_METHODS = {"download": ("GET", "HEAD"), "upload": ("DELETE", "POST", "PUT")}


def _now() -> datetime:
    return datetime.now(UTC)


class MediaApi:
    """Answers uploads and downloads, and hands every other request to `api`.

    `authenticate`, `rules`, `rates` and `allowances` are as the transcoder has them. `signer` is the gateway's, whose
    own token asks for a recording that a link names; `links` verifies that link.
    """

    def __init__(
        self,
        api: AsgiApp,
        uploads: MediaUploads,
        downloads: MediaDownloads,
        *,
        authenticate: Authenticate,
        signer: TokenSigner,
        links: LinkSigner,
        rules: Mapping[str, Rule],
        streams: Streams,
        problems: Problems,
        rates: Buckets | None = None,
        allowances: Allowances | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._api = api
        self._uploads = uploads
        self._downloads = downloads
        self._authenticate = authenticate
        self._signer = signer
        self._links = links
        self._rules = rules
        self._streams = streams
        self._problems = problems
        self._rates = rates
        self._allowances = allowances
        self._now = now
        count_from_zero((UPLOAD, READ))

    def stop(self) -> None:
        """End the downloads that are open: the process is about to stop."""
        self._streams.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = _PATH.fullmatch(scope["path"])
        if found is None:
            await self._api(scope, receive, send)
            return
        began = time.perf_counter()
        headers = headers_of(scope)
        request_id = request_id_of(headers.get(b"x-request-id", b"").decode("latin-1"))
        tenant, recording = found.group(1), found.group(2) or ""
        rpc = READ if recording else UPLOAD
        asked = MediaHttpRequest(scope, headers, receive, send, request_id, tenant, recording)
        trace, exemplar = headers.get(b"traceparent"), None
        try:
            logs.bind(request_id=request_id, method=rpc)
            # First, so that of requests without a valid credential nothing is exported.
            link = await self._admitted(asked, rpc)
            with tracing.edge_span(rpc, trace.decode("latin-1") if trace else None, "api"):
                exemplar = tracing.exemplar()
                if asked.recording:
                    status, body, more = await self._downloads.answer(asked, link)
                else:
                    status, body, more = await self._uploads.answer(asked)
        except Gone:
            return
        except Exception as error:
            status, body, more = self._problems.answer(error, asked.caller)
        ANSWERED.labels(rpc, str(status)).inc()
        TOOK.labels(rpc).observe(time.perf_counter() - began, exemplar)
        if body is not None:
            answer = [*more, (b"x-request-id", request_id.encode())]
            if status not in (204, 304):
                answer.append((b"content-length", str(len(body)).encode()))
            await send({"type": "http.response.start", "status": status, "headers": answer})
            await send({"type": "http.response.body", "body": body})

    async def _admitted(self, asked: MediaHttpRequest, rpc: str) -> Link | None:
        """Find out by which right it is asked; return the link if it is that."""
        allowed = _METHODS["download" if asked.recording else "upload"]
        if asked.method not in allowed:
            said = ", ".join(allowed)
            raise problem(
                405, grpc.StatusCode.UNIMPLEMENTED, "NO_SUCH_METHOD", f"this path allows {said}",
                (b"allow", said.encode()),
            )  # fmt: skip
        token = asked.query("link").get("link") if asked.recording else None
        if token is not None:
            return self._linked(asked, token)
        await self._admit(asked, rpc)
        return None

    async def _admit(self, asked: MediaHttpRequest, rpc: str) -> None:
        """Tell who asks, and whether they may. The audio service checks it again."""
        header = asked.headers.get(b"authorization")
        shown, _ = await admitted(self._allowances, self._authenticate, header, asked.scope, "media")
        asked.caller, asked.authorization = shown.caller, shown.authorization
        rated(self._rates, shown.caller)
        rule = guard.admit(shown.caller, rpc, self._rules.get(rpc))
        if asked.recording:
            name = f"tenants/{asked.tenant}/recordings/{asked.recording}"
            guard.confine(shown.caller, rpc, rule, recording_service_pb2.ReadRecordingRequest(name=name))
        else:
            request = recording_service_pb2.UploadRecordingRequest(parent=f"tenants/{asked.tenant}")
            guard.confine(shown.caller, rpc, rule, request)

    def _linked(self, asked: MediaHttpRequest, token: str) -> Link:
        """Return the link, in whose name the gateway itself asks. Raises HttpProblem 410 for one that is over."""
        name = f"tenants/{asked.tenant}/recordings/{asked.recording}"
        try:
            link = self._links.verify(token, name, self._now())
        except FailedPrecondition as error:
            raise problem(410, error.code, error.reason, error.message) from None
        wait = self._rates.take(f"link {asked.tenant}") if self._rates is not None else 0.0
        if wait:
            raise ResourceExhausted(
                "the links of the tenant are used too often", reason="API_RATE", retry_after=wait
            )
        asked.caller, asked.authorization = ANONYMOUS, f"Bearer {self._signer.service_token(asked.tenant)}"
        return link


def media_api(
    api: AsgiApp,
    channel: grpc.aio.Channel,
    *,
    authenticate: Authenticate,
    signer: TokenSigner,
    links: LinkSigner,
    rules: Mapping[str, Rule],
    public_url: str,
    rates: Buckets | None = None,
    allowances: Allowances | None = None,
    now: Callable[[], datetime] = _now,
) -> MediaApi:
    """Wire the application; `channel` leads to the audio service."""
    streams, problems = Streams(), Problems()
    return MediaApi(
        api,
        MediaUploads(channel, public_url),
        MediaDownloads(channel, streams, problems),
        authenticate=authenticate,
        signer=signer,
        links=links,
        rules=rules,
        streams=streams,
        problems=problems,
        rates=rates,
        allowances=allowances,
        now=now,
    )
