"""Pictures and other files of a message: fetched and kept like recordings; what cannot be kept is said on the call."""

from __future__ import annotations

from trunkline.audio.v1 import recording_service_pb2
from trunkline.tenant.v1 import call_pb2
from trunkline_runtime.errors import TrunklineError

from trunkline_gateway.ids import digest_id
from trunkline_gateway.pipeline import call_requests
from trunkline_gateway.pipeline.clients import Clients
from trunkline_gateway.pipeline.policy import EMPTY, FORBIDDEN, MEDIA, NOT_READY
from trunkline_gateway.pipeline.run import Run
from trunkline_gateway.providers.base import Facts, MediaRequest, Source

# A file comes with its message or within minutes. Later its link has expired.
_WAIT_SECONDS = 600.0


class MediaKeeper:
    """Has the files of messages kept at the audio service."""

    def __init__(self, clients: Clients):
        """Take the services."""
        self._clients = clients

    async def keep(self, run: Run, source: Source, facts: Facts, call: str) -> None:
        """Fetch each file and record what became of all of them. Raises what a file failed with that may come yet."""
        waits: TrunklineError | None = None
        async with run.at(MEDIA):
            kept = []
            for file in facts.media:
                try:
                    kept.append(await self._fetch(run, source, file, call))
                except TrunklineError as error:
                    if not _is_final(error, file, run.waited_seconds):
                        waits = waits or error
                    kept.append(call_requests.media(file, problem=error.reason))
            stated = call_pb2.Call(
                source=run.job.source,
                provider=facts.call.provider,
                provider_account=facts.call.provider_account,
                media=kept,
            )
            await self._clients.record(call_requests.request(run, source, facts, stated, ("media",)))
            if waits is not None:
                raise waits

    async def _fetch(self, run: Run, source: Source, file: MediaRequest, call: str) -> call_pb2.Media:
        request = recording_service_pb2.FetchRecordingRequest(
            parent=f"tenants/{run.tenant}",
            recording_id=digest_id("r", (call, MEDIA, file.key)),
            call=call,
            url=file.url,
            headers=file.headers,
            attachment=True,
            quota_bytes=source.quotas.recordings_bytes,
        )
        call_requests.keep(request.expire_time, run, source.retention.recordings_days)
        recording = await self._clients.fetch(request)
        shown = call_requests.media(file, recording=recording.name)
        shown.content_type = shown.content_type or recording.format
        return shown


def _is_final(error: TrunklineError, file: MediaRequest, waited_seconds: float) -> bool:
    """Say whether a file will not come: a link that refuses without being shown a credential has expired."""
    if error.reason == FORBIDDEN:
        return not file.headers
    if error.reason in (NOT_READY, EMPTY):
        return waited_seconds >= _WAIT_SECONDS
    return not error.transient
