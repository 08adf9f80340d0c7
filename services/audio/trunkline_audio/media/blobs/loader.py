"""Makes what keeps the bytes of recordings from the service's settings."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from trunkline_runtime.observe import disks

from trunkline_audio.media.blobs.base import Blobs
from trunkline_audio.media.blobs.local import LocalBlobs
from trunkline_audio.media.blobs.settings import BlobSettings


def load_blobs(settings: BlobSettings, folder: Path, scratch: Path) -> AbstractAsyncContextManager[Blobs]:
    """Return the bucket if there is one, or else the folder; to be entered. A bucket's bytes pass through `scratch`."""
    if not settings.bucket:
        disks.show("recordings", folder)
        return nullcontext(LocalBlobs(folder))
    from trunkline_audio.media.blobs.gcs import GcsBlobs  # noqa: PLC0415 - loaded when used

    return GcsBlobs(settings, scratch / "blobs")
