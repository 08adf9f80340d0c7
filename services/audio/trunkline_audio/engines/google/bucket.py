"""The bucket through which long recordings are handed over: a part of the interface of blobs, and Cloud Storage."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Any, Protocol

from trunkline_audio.engines.google.settings import GoogleSettings


class BucketKeyAbsent(Exception):
    """There is nothing under this key."""


class Bucket(Protocol):
    """Keeps what is handed over, under keys such as `acme/speech/abc/0.flac`, wholly or not at all.

    What it raises beside BucketKeyAbsent are the errors of Google's client library.
    """

    def uri(self, key: str) -> str:
        """Return the name by which Google's services find it."""

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> object:
        """Keep what `chunks` give, replacing what was there."""

    def read(self, key: str) -> AsyncIterator[bytes]:
        """Give what is kept. Raises BucketKeyAbsent before the first piece."""

    async def delete_folder(self, folder: str, most: int) -> int:
        """Delete what is under a folder, `most` at most; how many."""


class StorageBucket:
    """The bucket and folder of the settings, through the blocking client in threads; the environment's credentials."""

    def __init__(self, settings: GoogleSettings) -> None:
        name, _, folder = settings.bucket.removeprefix("gs://").partition("/")
        self._name = name
        self._prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        self._quota_project = settings.quota_project
        self._lock = threading.Lock()
        self._client: Any = None

    def uri(self, key: str) -> str:
        """gs://bucket/folder/key."""
        return f"gs://{self._name}/{self._prefix}{key}"

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Upload in one request: an object appears with its last byte."""
        body = b"".join([chunk async for chunk in chunks])
        await asyncio.to_thread(self._upload, key, body)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """One piece: what is read here is small."""
        yield await asyncio.to_thread(self._download, key)

    async def delete_folder(self, folder: str, most: int) -> int:
        """Delete objects one after the other."""
        return await asyncio.to_thread(self._delete, folder, most)

    def _upload(self, key: str, body: bytes) -> None:
        from google.cloud.storage.retry import DEFAULT_RETRY  # noqa: PLC0415 -- loaded where a bucket is used

        blob = self._bucket().blob(self._prefix + key)
        blob.upload_from_string(body, content_type="application/octet-stream", retry=DEFAULT_RETRY)

    def _download(self, key: str) -> bytes:
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        try:
            body: bytes = self._bucket().blob(self._prefix + key).download_as_bytes()
        except NotFound:
            raise BucketKeyAbsent(key) from None
        return body

    def _delete(self, folder: str, most: int) -> int:
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        bucket, count = self._bucket(), 0
        for blob in bucket.list_blobs(prefix=f"{self._prefix}{folder}/", max_results=most):
            try:
                blob.delete()
            except NotFound:  # somebody else was first
                continue
            count += 1
        return count

    def _bucket(self) -> Any:
        import google.auth.credentials  # noqa: PLC0415
        import google.cloud.storage  # noqa: PLC0415

        with self._lock:
            if self._client is None:
                if os.environ.get("STORAGE_EMULATOR_HOST"):
                    anonymous: Any = google.auth.credentials.AnonymousCredentials
                    found = anonymous()
                else:
                    scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]
                    found, _ = google.auth.default(
                        scopes=scopes, quota_project_id=self._quota_project or None
                    )
                self._client = google.cloud.storage.Client(project="none", credentials=found)
            return self._client.bucket(self._name)
