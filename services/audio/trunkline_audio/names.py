"""Resource names of this service and the ids that are derived."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from trunkline_runtime.api import resources
from trunkline_runtime.digests import digest, letters

SERVICE = "audio"
"""The service's own name, in the names of its settings too."""

RECORDING = "tenants/{tenant}/recordings/{recording}"
TRANSCRIPT = "tenants/{tenant}/transcripts/{transcript}"
UPLOAD = "tenants/{tenant}/uploads/{upload}"
FEATURES = f"{TRANSCRIPT}/audioFeatures"
TENANT = "tenants/{tenant}"
LOWEST_CLASS = 2
"""Of the classes that `queue_class` returns: what nobody waits for."""


def recording_name(tenant: str, recording: str) -> str:
    """The name of a recording."""
    return resources.format(RECORDING, tenant=tenant, recording=recording)


def transcript_name(tenant: str, transcript: str) -> str:
    """The name of a transcript."""
    return resources.format(TRANSCRIPT, tenant=tenant, transcript=transcript)


def upload_name(tenant: str, upload: str) -> str:
    """The name of an upload."""
    return resources.format(UPLOAD, tenant=tenant, upload=upload)


def features_name(tenant: str, transcript: str) -> str:
    """The name of the features of a transcript."""
    return resources.format(FEATURES, tenant=tenant, transcript=transcript)


def derived_id(parts: Sequence[str]) -> str:
    """An id of 32 characters that the same parts always give; no two lists of parts share one by joining."""
    return letters(digest(*parts), 32)


def duration(microseconds: int) -> Duration:
    """A protobuf Duration of so many microseconds."""
    value = Duration()
    value.FromMicroseconds(microseconds)
    return value


def microseconds(seconds: float) -> int:
    """Seconds as whole microseconds."""
    return round(seconds * 1_000_000)
