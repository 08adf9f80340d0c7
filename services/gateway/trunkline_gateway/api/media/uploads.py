"""Uploads over HTTP: in one request, or in parts by Google's resumable protocol.

POST starts an upload and names its URL, PUT with Content-Range sends parts, `308` with Range says how far it is, DELETE
cancels it. The parts lie with the audio service, so a restart of either, and other replicas, change nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
from trunkline.audio.v1 import (
    recording_service_pb2,
    recording_service_pb2_grpc,
    upload_pb2,
    upload_service_pb2,
    upload_service_pb2_grpc,
)
from trunkline_runtime.errors import InvalidArgument, OutOfRange, from_rpc_error

from trunkline_gateway.api.media.ranges import ContentRange, sent_part
from trunkline_gateway.api.media.requests import Answer, MediaHttpRequest, filled, json_answer, members
from trunkline_gateway.api.problems import problem
from trunkline_gateway.api.transcode.intake import Gone, check_plain, content, unsupported
from trunkline_gateway.http_errors import Header

CALL_SECONDS = 30.0
STREAM_SECONDS = 3_600.0
_CALL_BYTES = 8 * 1024 * 1024
"""So much of a part goes into one call: what is confirmed need not be sent again when a later call is cut."""
_MOST_METADATA_BYTES = 65_536
_HOST = re.compile(rb"[A-Za-z0-9.:\[\]_-]{1,255}")
_FIELDS = ("recordingId", "call", "headerlessFormat", "expireTime", "sha256")
_DECIMAL = re.compile(rb"\d{1,15}")


class MediaUploads:
    """Passes bodies on to the audio service; nothing of them is held but what is on its way."""

    def __init__(self, channel: grpc.aio.Channel, public_url: str) -> None:
        """`public_url` is the gateway's own, which tells whether its host is reached over TLS."""
        self._recordings = recording_service_pb2_grpc.RecordingServiceStub(channel)
        self._uploads = upload_service_pb2_grpc.UploadServiceStub(channel)
        self._public = urlsplit(public_url)

    async def answer(self, asked: MediaHttpRequest) -> Answer:
        """Answer a request to `recordings:upload`. Raises what goes wrong."""
        check_plain(asked.headers)
        kind = asked.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind.startswith(b"multipart/"):
            raise unsupported(
                "the body must be the recording's bytes alone, and not a form; curl sends them with --data-binary @FILE"
            )
        if asked.method == "POST":
            query = asked.query("uploadType", *_FIELDS)
            way = query.pop("uploadType", "") or (
                "resumable" if kind in (b"", b"application/json") else "media"
            )
            if way == "resumable":
                if _has_body(asked) and kind != b"application/json":
                    raise unsupported(
                        "a recording's bytes need a content type, such as audio/mpeg; a resumable upload begins with"
                        " application/json"
                    )
                return await self._start(asked, query)
            if way == "media":
                return await self._whole(asked, query)
            raise InvalidArgument("uploadType", "is resumable or media")
        query = asked.query("uploadId", "uploadType", *_FIELDS)
        upload = query.pop("uploadId", "")
        if not upload:
            raise InvalidArgument(
                "uploadId",
                "is required: PUT continues an upload, and DELETE cancels it; a recording in one request is a POST",
            )
        query.pop("uploadType", "")
        if query:
            raise InvalidArgument(next(iter(query)), "belongs to the POST that starts the upload")
        name = f"tenants/{asked.tenant}/uploads/{upload}"
        if asked.method == "DELETE":
            request = upload_service_pb2.DeleteUploadRequest(name=name)
            await self._uploads.DeleteUpload(request, metadata=asked.metadata, timeout=CALL_SECONDS)
            return 204, b"", ()
        return await self._put(asked, name)

    async def _start(self, asked: MediaHttpRequest, query: dict[str, str]) -> Answer:
        """Begin an upload in parts, and name its URL."""
        if _length(asked) > _MOST_METADATA_BYTES:
            raise problem(
                413, grpc.StatusCode.INVALID_ARGUMENT, "BODY_TOO_LARGE",
                f"the JSON that begins an upload is over {_MOST_METADATA_BYTES} bytes; a recording's bytes need a"
                " content type of their own, such as audio/mpeg",
            )  # fmt: skip
        body = await content(
            asked.headers, asked.receive, check=None, most=_MOST_METADATA_BYTES, seconds=CALL_SECONDS
        )
        fields = members(body, *_FIELDS, "sizeBytes") | query
        size = asked.headers.get(b"x-upload-content-length")
        if size is not None:
            fields.setdefault("sizeBytes", str(_number(size, "x-upload-content-length")))
            if not _number(size, "x-upload-content-length"):
                raise _empty("x-upload-content-length")
        wanted = filled(recording_service_pb2.UploadRecordingRequest(), fields)
        upload = upload_pb2.Upload(
            call=wanted.call,
            headerless_format=wanted.headerless_format,
            sha256=wanted.sha256,
            size_bytes=wanted.size_bytes,
        )
        if wanted.HasField("expire_time"):
            upload.recording_expire_time.CopyFrom(wanted.expire_time)
        made = await self._uploads.CreateUpload(
            upload_service_pb2.CreateUploadRequest(
                parent=f"tenants/{asked.tenant}", upload_id=wanted.recording_id, upload=upload
            ),
            metadata=asked.metadata,
            timeout=CALL_SECONDS,
        )
        if made.HasField("recording"):
            return json_answer(made)
        return json_answer(made, 200, (b"location", self._location(asked, made.name)))

    def _location(self, asked: MediaHttpRequest, name: str) -> bytes:
        upload = name.rpartition("/")[2]
        path = f"/v1/tenants/{asked.tenant}/recordings:upload?uploadId={upload}".encode()
        host = asked.headers.get(b"host", b"")
        if not _HOST.fullmatch(host):
            return path
        ours = host.decode().lower() == self._public.netloc.lower()
        return (self._public.scheme if ours else "http").encode() + b"://" + host + path

    async def _whole(self, asked: MediaHttpRequest, query: dict[str, str]) -> Answer:
        """Take a recording in one request."""
        first = recording_service_pb2.UploadRecordingRequest(
            parent=f"tenants/{asked.tenant}", size_bytes=_length(asked)
        )
        filled(first, query)
        call = self._recordings.UploadRecording(metadata=asked.metadata, timeout=STREAM_SECONDS)
        try:
            with suppress(asyncio.InvalidStateError, grpc.RpcError):  # it has its answer: below
                await call.write(first)
                async for piece in asked.body():
                    await call.write(recording_service_pb2.UploadRecordingRequest(data=piece))
                await call.done_writing()
            return json_answer(await call)
        finally:
            call.cancel()

    async def _put(self, asked: MediaHttpRequest, name: str) -> Answer:
        """Take a part, or tell how far the upload is."""
        header = asked.headers.get(b"content-range")
        length = _length(asked)
        part = ContentRange(0, length, length) if header is None else sent_part(header)
        if part is None:
            raise InvalidArgument(
                "content-range",
                "must be bytes FIRST-LAST/SIZE, bytes FIRST-LAST/*, or bytes */SIZE, with FIRST <= LAST < SIZE",
                reason="BAD_CONTENT_RANGE",
            )
        if part.length and length and part.length != length:
            raise InvalidArgument(
                "content-range",
                f"states {part.length} bytes, and the body has {length}",
                reason="BAD_CONTENT_RANGE",
            )
        if header is not None and header.strip().endswith(b"/0"):
            raise _empty("content-range")
        if header is not None and part.asks:
            return await self._asked(asked, name, part.total)
        upload = None
        body, offset = asked.body(), part.start
        try:
            while True:
                sent, upload, ended = await self._write(asked, name, offset, part, body)
                offset += sent
                if ended:
                    break
        except OutOfRange as error:
            if error.reason != "UPLOAD_OFFSET":
                raise
            return await self._asked(asked, name, 0)
        if header is None and not length:  # a whole body that said nothing of its size
            return await self._asked(asked, name, offset)
        return _progress(upload)

    async def _write(
        self, asked: MediaHttpRequest, name: str, offset: int, part: ContentRange, body: AsyncIterator[bytes]
    ) -> tuple[int, Any, bool]:
        """Pass some of a part on; how much, the upload, and whether that was the end.

        What came of a part is kept also when its sender hangs up.
        """
        call = self._uploads.WriteUpload(metadata=asked.metadata, timeout=STREAM_SECONDS)
        sent, ended, gone = 0, False, False
        try:
            with suppress(asyncio.InvalidStateError, grpc.RpcError):
                await call.write(
                    upload_service_pb2.WriteUploadRequest(name=name, offset=offset, size_bytes=part.total)
                )
                while sent < _CALL_BYTES:
                    try:
                        piece = await anext(body, None)
                    except Gone:
                        piece, gone = None, True
                    if piece is None:
                        ended = True
                        break
                    if part.length and offset + sent + len(piece) > part.start + part.length:
                        raise InvalidArgument(
                            "content-range", "names fewer bytes than came", reason="SIZE_MISMATCH"
                        )
                    await call.write(upload_service_pb2.WriteUploadRequest(data=piece))
                    sent += len(piece)
                await call.done_writing()
            try:
                upload = await call
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                    raise from_rpc_error(error) from None
                raise
            if gone:
                raise Gone
            return sent, upload, ended
        finally:
            call.cancel()

    async def _asked(self, asked: MediaHttpRequest, name: str, total: int) -> Answer:
        """Tell how far an upload is; one that is whole is completed, should that have failed before."""
        request = upload_service_pb2.GetUploadRequest(name=name)
        upload = await self._uploads.GetUpload(request, metadata=asked.metadata, timeout=CALL_SECONDS)
        size = upload.size_bytes or total
        if not upload.HasField("recording") and 0 < size == upload.received_bytes:
            write = upload_service_pb2.WriteUploadRequest(name=name, offset=size, size_bytes=size)
            upload = await self._uploads.WriteUpload(
                iter([write]), metadata=asked.metadata, timeout=STREAM_SECONDS
            )
        return _progress(upload)


def _progress(upload: Any) -> Answer:
    """Return the recording when there is one, else `308` and what is there."""
    if upload.HasField("recording"):
        return json_answer(
            recording_service_pb2.UploadRecordingResponse(
                recording=upload.recording, existing=upload.existing
            )
        )
    there: tuple[Header, ...] = ()
    if upload.received_bytes:
        there = ((b"range", b"bytes=0-%d" % (upload.received_bytes - 1)),)
    return 308, b"", there


def _length(asked: MediaHttpRequest) -> int:
    """Return the Content-Length; 0 without one."""
    header = asked.headers.get(b"content-length")
    return 0 if header is None else _number(header, "content-length")


def _has_body(asked: MediaHttpRequest) -> bool:
    return b"transfer-encoding" in asked.headers or _length(asked) > 0


def _empty(field: str) -> InvalidArgument:
    return InvalidArgument(field, "must state at least one byte", reason="RECORDING_EMPTY")


def _number(header: bytes, name: str) -> int:
    if not _DECIMAL.fullmatch(header.strip()):
        raise InvalidArgument(name, "must be a number of bytes")
    return int(header)
