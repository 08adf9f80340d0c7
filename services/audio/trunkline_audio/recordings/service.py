"""RecordingService over gRPC: translates, nothing more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from google.protobuf import empty_pb2
from trunkline.audio.v1 import recording_pb2, recording_service_pb2, recording_service_pb2_grpc
from trunkline_runtime.api import paging, resources
from trunkline_runtime.api.times import given_time
from trunkline_runtime.errors import NotFound

from trunkline_audio.media.blobs.base import Blobs
from trunkline_audio.names import RECORDING, TENANT, recording_name
from trunkline_audio.recordings.deletion_notice import Forget
from trunkline_audio.recordings.downloads import HOUR, Downloads
from trunkline_audio.recordings.receiver import FetchOrder, RecordingReceiver
from trunkline_audio.recordings.rows import HEADERLESS_NAMES, Recordings, blob_key
from trunkline_audio.recordings.uploads.service import data_of
from trunkline_audio.recordings.uploads.uploader import Uploader, UploadOrder


class RecordingServicer(recording_service_pb2_grpc.RecordingServiceServicer):
    """Fetches, shows and deletes recordings."""

    def __init__(
        self,
        recordings: Recordings,
        receiver: RecordingReceiver,
        blobs: Blobs,
        forget: Forget,
        uploader: Uploader,
        downloads: Downloads,
    ) -> None:
        self._recordings = recordings
        self._receiver = receiver
        self._blobs = blobs
        self._forget = forget
        self._uploader = uploader
        self._downloads = downloads

    async def FetchRecording(
        self, request: recording_service_pb2.FetchRecordingRequest, context: Any
    ) -> recording_pb2.Recording:
        """Create or get."""
        tenant = resources.parse(TENANT, request.parent, field="parent")["tenant"]
        order = FetchOrder(
            tenant_id=tenant,
            recording_id=request.recording_id,
            call=request.call,
            url=request.url,
            headers=dict(request.headers),
            url_field=request.url_field,
            attachment=request.attachment,
            quota_bytes=request.quota_bytes,
            expire_at=given_time(request, "expire_time"),
            headerless=HEADERLESS_NAMES[request.headerless_format],
            least_seconds=request.least_duration.ToTimedelta().total_seconds(),
            seconds=context.time_remaining(),
        )
        return (await self._receiver.receive(order)).to_proto()

    async def UploadRecording(
        self, requests: AsyncIterator[recording_service_pb2.UploadRecordingRequest], context: Any
    ) -> recording_service_pb2.UploadRecordingResponse:
        """Keep what comes."""
        first = await anext(requests)
        tenant = resources.parse(TENANT, first.parent, field="parent")["tenant"]
        order = UploadOrder(
            tenant_id=tenant,
            recording_id=first.recording_id,
            call=first.call,
            headerless=HEADERLESS_NAMES[first.headerless_format],
            expire_at=given_time(first, "expire_time"),
            sha256=first.sha256,
            size_bytes=first.size_bytes,
        )
        kept = await self._uploader.upload(order, data_of(first, requests))
        return recording_service_pb2.UploadRecordingResponse(
            recording=kept.recording.to_proto(), existing=kept.existing
        )

    async def ReadRecording(
        self, request: recording_service_pb2.ReadRecordingRequest, context: Any
    ) -> AsyncIterator[recording_service_pb2.ReadRecordingResponse]:
        """The bytes, as fast as they are taken."""
        ids = resources.parse(RECORDING, request.name)
        pieces = self._downloads.read(
            ids["tenant"], ids["recording"], request.start, request.end, request.sha256
        )
        async with aclosing(pieces):
            async for piece in pieces:
                yield recording_service_pb2.ReadRecordingResponse(data=piece)

    async def CreateDownloadLink(
        self, request: recording_service_pb2.CreateDownloadLinkRequest, context: Any
    ) -> recording_service_pb2.CreateDownloadLinkResponse:
        """A URL for players."""
        ids = resources.parse(RECORDING, request.name)
        lifetime = request.lifetime.ToTimedelta() if request.HasField("lifetime") else HOUR
        path, until = await self._downloads.link(ids["tenant"], ids["recording"], lifetime)
        answer = recording_service_pb2.CreateDownloadLinkResponse(path=path)
        answer.expire_time.FromDatetime(until)
        return answer

    async def GetRecording(
        self, request: recording_service_pb2.GetRecordingRequest, context: Any
    ) -> recording_pb2.Recording:
        """One recording."""
        ids = resources.parse(RECORDING, request.name)
        found = await self._recordings.get(ids["tenant"], ids["recording"])
        if found is None:
            raise NotFound(request.name)
        return found.to_proto()

    async def ListRecordings(
        self, request: recording_service_pb2.ListRecordingsRequest, context: Any
    ) -> recording_service_pb2.ListRecordingsResponse:
        """A page, the latest first."""
        tenant = resources.parse(TENANT, request.parent, field="parent")["tenant"]
        found, token = await self._recordings.page(
            tenant, paging.place_of(request, "recordings", request.parent, request.filter), request.filter
        )
        return recording_service_pb2.ListRecordingsResponse(
            recordings=[recording.to_proto() for recording in found], next_page_token=token
        )

    async def DeleteRecording(
        self, request: recording_service_pb2.DeleteRecordingRequest, context: Any
    ) -> empty_pb2.Empty:
        """Tells its call first: whoever asks again after a failure finds the row, and tells again.

        Then deletes the row: bytes without a row are unreachable, a row without bytes would lie.
        """
        ids = resources.parse(RECORDING, request.name)
        found = await self._recordings.get(ids["tenant"], ids["recording"])
        if found is not None and found.call:
            await self._forget(found.call, request.name, False)
        was_there = await self._recordings.delete(ids["tenant"], ids["recording"])
        bytes_were_there = await self._blobs.delete(blob_key(ids["tenant"], ids["recording"]))
        if not (was_there or bytes_were_there):
            raise NotFound(recording_name(ids["tenant"], ids["recording"]))
        return empty_pb2.Empty()
