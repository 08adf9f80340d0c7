"""Settings of where recordings lie beyond this machine, TRUNKLINE_AUDIO_BLOBS_*, and of how they age."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.settings import setting

_SCHEME = "gs://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[a-z0-9][a-z0-9._-]*)*/?")


def _maybe_bucket(text: str) -> None:
    if text and not (text.startswith(_SCHEME) and _BUCKET.fullmatch(text.removeprefix(_SCHEME))):
        raise ValueError("must be gs://bucket or gs://bucket/folder, in small letters, or empty")


BUCKET = forms.Form("gs://bucket, gs://bucket/folder, or empty", _maybe_bucket)


@dataclass(frozen=True, kw_only=True)
class BlobSettings:
    """Which bucket keeps recordings, if any, and how they age. Credentials are those of the environment (ADC)."""

    bucket: str = setting(
        "",
        "the Google Cloud Storage bucket for the bytes of recordings, instead of the folder",
        form=BUCKET,
    )
    quota_project: str = setting(
        "",
        "the project that is billed for requests to the bucket, if it is another one",
        form=forms.named("a project's id", optional=True),
    )
    requests_at_once: int = setting(
        16, "the most requests to the bucket at once; each takes a thread", least=1, most=256
    )
    patience_seconds: float = setting(
        30.0, "how long a request is repeated that the bucket does not answer", least=0, most=600
    )
    nearline_days: int = setting(
        30, "the age in days at which a bucket's recordings become NEARLINE; 0: never", least=0, most=36500
    )
    coldline_days: int = setting(
        90, "the age in days at which a bucket's recordings become COLDLINE; 0: never", least=0, most=36500
    )
    archive_days: int = setting(
        365, "the age in days at which a bucket's recordings become ARCHIVE; 0: never", least=0, most=36500
    )
    delete_days: int = setting(
        2555,
        "the age in days at which a recording is deleted, unless its own time comes earlier; 0: never",
        least=0,
        most=36500,
    )

    @property
    def bucket_name(self) -> str:
        """The bucket, without its scheme and folder."""
        return self.bucket.removeprefix(_SCHEME).partition("/")[0]

    @property
    def prefix(self) -> str:
        """What the name of every object begins with: empty, or a folder and a slash."""
        folder = self.bucket.removeprefix(_SCHEME).partition("/")[2].strip("/")
        return f"{folder}/" if folder else ""
