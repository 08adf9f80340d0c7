"""Downloads: the bytes of a recording, or a range of them, for whoever has a key or a link."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import UTC
from typing import Any

import grpc
import grpc.aio
from trunkline.audio.v1 import recording_pb2, recording_service_pb2, recording_service_pb2_grpc
from trunkline_runtime.errors import FailedPrecondition, NotFound, from_rpc_error
from trunkline_runtime.identity.links import Link

from trunkline_gateway.api.media.ranges import Unsatisfiable, asked_range, is_known, is_same
from trunkline_gateway.api.media.requests import Answer, MediaHttpRequest
from trunkline_gateway.api.problems import Problems, problem
from trunkline_gateway.api.transcode.intake import unless_gone
from trunkline_gateway.api.transcode.streams import Relay, Streams
from trunkline_gateway.http_errors import Header

CALL_SECONDS = 30.0
STREAM_SECONDS = 3_600.0
_ATTEMPTS = 3
_ANY_TYPE = "application/octet-stream"

# By what `format` begins with: the content type, and the end of a file's name.
_TYPES = {
    "wav": ("audio/wav", "wav"),
    "w64": ("audio/x-w64", "w64"),
    "mp3": ("audio/mpeg", "mp3"),
    "ogg": ("audio/ogg", "ogg"),
    "flac": ("audio/flac", "flac"),
    "matroska": ("audio/webm", "webm"),
    "mov": ("audio/mp4", "m4a"),
    "aac": ("audio/aac", "aac"),
    "amr": ("audio/amr", "amr"),
    "aiff": ("audio/aiff", "aiff"),
    "au": ("audio/basic", "au"),
    "caf": ("audio/x-caf", "caf"),
    "asf": ("audio/x-ms-wma", "wma"),
    "mulaw": ("audio/basic", "ulaw"),
    "alaw": ("audio/x-alaw-basic", "alaw"),
    "gsm": ("audio/x-gsm", "gsm"),
}


def content_type(recording: recording_pb2.Recording) -> tuple[str, str]:
    """Return the content type of a recording and the end of its file's name, such as `audio/wav` and `wav`."""
    kind, end = _TYPES.get(recording.format.partition("/")[0], (_ANY_TYPE, "bin"))
    if end == "ulaw" and (recording.sample_rate_hertz, recording.channels) != (8_000, 1):
        return _ANY_TYPE, end  # what audio/basic is not
    return kind, end


class MediaDownloads:
    """Answers requests to `recordings/*:download`."""

    def __init__(self, channel: grpc.aio.Channel, streams: Streams, problems: Problems) -> None:
        self._recordings = recording_service_pb2_grpc.RecordingServiceStub(channel)
        self._streams = streams
        self._problems = problems

    async def answer(self, asked: MediaHttpRequest, link: Link | None) -> Answer:
        """Answer. Raises what goes wrong before the first byte."""
        name = f"tenants/{asked.tenant}/recordings/{asked.recording}"
        recording = await self._found(asked, name, link)
        size, etag = recording.size_bytes, b'"%s"' % recording.sha256.encode()
        kind, end = content_type(recording)
        always: tuple[Header, ...] = (
            (b"accept-ranges", b"bytes"),
            (b"etag", etag),
            (b"cache-control", b"private, no-cache"),
        )
        if is_known(asked.headers.get(b"if-none-match"), etag):
            return 304, b"", always
        span = None
        if asked.method == "GET" and is_same(asked.headers.get(b"if-range"), etag):
            try:
                span = asked_range(asked.headers.get(b"range"), size)
            except Unsatisfiable:
                raise problem(
                    416, grpc.StatusCode.OUT_OF_RANGE, "RANGE_NOT_SATISFIABLE", f"the recording has {size} bytes",
                    (b"content-range", b"bytes */%d" % size), (b"accept-ranges", b"bytes"),
                ) from None  # fmt: skip
        start, stop = span or (0, size)
        headers: list[Header] = [
            *always,
            (b"content-type", kind.encode()),
            (b"content-length", str(stop - start).encode()),
            # A browser must neither take a tenant's file for a page of the gateway's, nor show it as one.
            (b"content-disposition", f'attachment; filename="{asked.recording}.{end}"'.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"content-security-policy", b"default-src 'none'; sandbox"),
        ]
        if span is not None:
            headers.append((b"content-range", b"bytes %d-%d/%d" % (start, stop - 1, size)))
        status = 200 if span is None else 206
        headers.append((b"x-request-id", asked.request_id.encode()))
        if asked.method == "HEAD":
            await asked.send({"type": "http.response.start", "status": 200, "headers": headers})
            await asked.send({"type": "http.response.body", "body": b""})
            return 200, None, ()
        return await self._send(asked, recording, start, stop, status, tuple(headers))

    async def _found(self, asked: MediaHttpRequest, name: str, link: Link | None) -> recording_pb2.Recording:
        """Return the recording; with a link, the one that it was made for. Raises HttpProblem 410 when that is gone."""
        request = recording_service_pb2.GetRecordingRequest(name=name)
        gone = problem(410, grpc.StatusCode.FAILED_PRECONDITION, "LINK_GONE", "the recording was deleted")
        try:
            found = await self._recordings.GetRecording(
                request, metadata=asked.metadata, timeout=CALL_SECONDS
            )
        except grpc.RpcError as error:
            if link is not None and isinstance(from_rpc_error(error), NotFound):
                raise gone from None
            raise
        if link is not None and found.create_time.ToDatetime(UTC) != link.created_at:
            raise gone
        return found

    async def _send(
        self,
        asked: MediaHttpRequest,
        recording: recording_pb2.Recording,
        start: int,
        stop: int,
        status: int,
        headers: tuple[Header, ...],
    ) -> Answer:
        def told(error: Exception) -> tuple[int, None]:
            return self._problems.answer(error, asked.caller)[0], None

        async def free(_size: int) -> None:
            """The pace is the reader's."""

        def write(message: Any) -> tuple[tuple[Header, ...], bytes]:
            return headers, message.data

        relay = Relay(asked.send, empty=headers, more=(), pay=free, told=told, status=status)
        with self._streams.entered(relay):
            reading = _Reading(self._ask(asked, recording), start, stop)
            last = await unless_gone(relay.pass_on(reading, write), asked.receive)
        if last.body is not None:
            await asked.send({"type": "http.response.body", "body": last.body})
        return last.status, None, ()

    def _ask(self, asked: MediaHttpRequest, recording: recording_pb2.Recording) -> Callable[[int, int], Any]:
        def ask(start: int, stop: int) -> Any:
            request = recording_service_pb2.ReadRecordingRequest(
                name=recording.name, start=start, end=stop, sha256=recording.sha256
            )
            return self._recordings.ReadRecording(request, metadata=asked.metadata, timeout=STREAM_SECONDS)

        return ask


class _Reading:
    """A call that reads a span; one that is cut is made again from where it was: a connection has its age."""

    def __init__(self, ask: Callable[[int, int], Any], start: int, stop: int) -> None:
        self._ask = ask
        self._at = start
        self._stop = stop
        self._call: Any = None

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        failures = 0
        while self._at < self._stop:
            self._call = self._ask(self._at, self._stop)
            try:
                async for message in self._call:
                    self._at += len(message.data)
                    failures = 0
                    yield message
                if self._at < self._stop:
                    raise FailedPrecondition("the recording's bytes are gone", reason="RECORDING_UNREADABLE")
            except grpc.aio.AioRpcError as error:
                failures += 1
                if error.code() is not grpc.StatusCode.UNAVAILABLE or failures >= _ATTEMPTS:
                    raise

    def cancel(self) -> None:
        """Stop reading."""
        if self._call is not None:
            with suppress(Exception):
                self._call.cancel()
