"""UploadService over gRPC: translates, nothing more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import empty_pb2
from trunkline.audio.v1 import upload_pb2, upload_service_pb2, upload_service_pb2_grpc
from trunkline_runtime.api import resources
from trunkline_runtime.api.times import given_time

from trunkline_audio.names import TENANT, UPLOAD, upload_name
from trunkline_audio.recordings.rows import HEADERLESS_NAMES, Recording
from trunkline_audio.recordings.uploads.rows import Upload
from trunkline_audio.recordings.uploads.uploader import Uploader, UploadOrder

_FORMATS = {name: value for value, name in HEADERLESS_NAMES.items()}


class UploadServicer(upload_service_pb2_grpc.UploadServiceServicer):
    """Takes recordings in parts."""

    def __init__(self, uploader: Uploader) -> None:
        self._uploader = uploader

    async def CreateUpload(
        self, request: upload_service_pb2.CreateUploadRequest, context: Any
    ) -> upload_pb2.Upload:
        """Begin."""
        tenant = resources.parse(TENANT, request.parent, field="parent")["tenant"]
        wanted = request.upload
        order = UploadOrder(
            tenant_id=tenant,
            recording_id=request.upload_id,
            call=wanted.call,
            headerless=HEADERLESS_NAMES[wanted.headerless_format],
            expire_at=given_time(wanted, "recording_expire_time"),
            sha256=wanted.sha256,
            size_bytes=wanted.size_bytes,
        )
        return _message(*await self._uploader.create(order))

    async def GetUpload(
        self, request: upload_service_pb2.GetUploadRequest, context: Any
    ) -> upload_pb2.Upload:
        """How far it is."""
        ids = resources.parse(UPLOAD, request.name)
        return _message(*await self._uploader.get(ids["tenant"], ids["upload"]))

    async def WriteUpload(
        self, requests: AsyncIterator[upload_service_pb2.WriteUploadRequest], context: Any
    ) -> upload_pb2.Upload:
        """Go on."""
        first = await anext(requests)
        ids = resources.parse(UPLOAD, first.name)
        done = await self._uploader.write(
            ids["tenant"], ids["upload"], first.offset, first.size_bytes, data_of(first, requests)
        )
        return _message(*done)

    async def DeleteUpload(
        self, request: upload_service_pb2.DeleteUploadRequest, context: Any
    ) -> empty_pb2.Empty:
        """Cancel."""
        ids = resources.parse(UPLOAD, request.name)
        await self._uploader.cancel(ids["tenant"], ids["upload"])
        return empty_pb2.Empty()


async def data_of(first: Any, later: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """Give the `data` of a stream's messages, without empty ones."""
    if first.data:
        yield first.data
    async for message in later:
        if message.data:
            yield message.data


def _message(upload: Upload, recording: Recording | None) -> upload_pb2.Upload:
    message = upload_pb2.Upload(
        name=upload_name(upload.tenant_id, upload.upload_id),
        call=upload.call,
        headerless_format=_FORMATS[upload.headerless],
        sha256=upload.sha256,
        size_bytes=upload.size_bytes,
        received_bytes=upload.received_bytes,
        existing=upload.existing,
        recording=None if recording is None else recording.to_proto(),
    )
    message.create_time.FromDatetime(upload.created_at)
    message.expire_time.FromDatetime(upload.expire_at)
    if upload.recording_expire_at is not None:
        message.recording_expire_time.FromDatetime(upload.recording_expire_at)
    return message
