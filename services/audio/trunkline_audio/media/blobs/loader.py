"""Makes what keeps the bytes of recordings from the service's settings."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext

from trunkline_runtime.observe import disks

from trunkline_audio.config import AudioConfig
from trunkline_audio.media.blobs.base import Blobs
from trunkline_audio.media.blobs.local import LocalBlobs


def load_blobs(config: AudioConfig) -> AbstractAsyncContextManager[Blobs]:
    """Return the bucket if there is one, or else the folder; to be entered."""
    if not config.blobs.bucket:
        disks.show("recordings", config.blobs_folder)
        return nullcontext(LocalBlobs(config.blobs_folder))
    from trunkline_audio.media.blobs.gcs import GcsBlobs  # noqa: PLC0415 - loaded when used

    return GcsBlobs(config.blobs, config.scratch_folder / "blobs")
