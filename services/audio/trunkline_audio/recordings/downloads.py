"""Gives a recording's bytes out, and the links that need no key."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, cast

from trunkline_runtime.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, OutOfRange
from trunkline_runtime.identity.links import LinkSigner
from trunkline_store.clock import Clock

from trunkline_audio.media.blobs.base import BlobNotFound, Blobs
from trunkline_audio.names import recording_name
from trunkline_audio.recordings.rows import Recording, Recordings
from trunkline_audio.slots import FairSlots

HOUR = timedelta(hours=1)


class Downloads:
    """Reads recordings, and signs links to them."""

    def __init__(
        self, recordings: Recordings, blobs: Blobs, signer: LinkSigner, clock: Clock, at_once: int
    ) -> None:
        """`at_once` is how many are read at once: a reader may take an hour for one, and each holds memory."""
        self._recordings = recordings
        self._slots = FairSlots(at_once, "downloads")
        self._blobs = blobs
        self._signer = signer
        self._clock = clock

    async def read(
        self, tenant: str, recording: str, start: int, end: int, sha256: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """Give the bytes from `start` to before `end` (0: to the last), at most 256 KiB at once.

        Raises InvalidArgument, NotFound, OutOfRange, Aborted when they are not those of `sha256`, FailedPrecondition
        when they are gone, and ResourceExhausted.
        """
        if 0 < end <= start:
            raise InvalidArgument("end", f"must be 0, or more than start, which is {start}")
        found = await self._found(tenant, recording)
        if sha256 not in ("", found.sha256):
            raise Aborted("the recording has other bytes by now", reason="RECORDING_CHANGED")
        if start >= found.size_bytes and start:
            raise OutOfRange(
                f"the recording has {found.size_bytes} bytes", metadata={"size_bytes": str(found.size_bytes)}
            )
        # The interface says no more than that it is an iterator; a generator is closed when its reader has gone.
        pieces = cast(Any, self._blobs.read(found.blob_key, start, end or None))
        try:
            with self._slots.held(tenant):
                async with aclosing(pieces):
                    async for piece in pieces:
                        yield piece
        except BlobNotFound:
            raise FailedPrecondition(
                "the recording's bytes are gone", reason="RECORDING_UNREADABLE"
            ) from None

    async def link(self, tenant: str, recording: str, lifetime: timedelta) -> tuple[str, datetime]:
        """Return the path of a download that needs no key, and until when it works. Raises NotFound."""
        found = await self._found(tenant, recording)
        until = self._clock.now() + lifetime
        if found.expire_at is not None:
            until = min(until, found.expire_at)
        name = recording_name(tenant, recording)
        token = self._signer.sign(name, found.created_at, until)
        return f"/v1/{name}:download?link={token}", until

    async def _found(self, tenant: str, recording: str) -> Recording:
        found = await self._recordings.get(tenant, recording)
        if found is None:
            raise NotFound(recording_name(tenant, recording))
        return found
