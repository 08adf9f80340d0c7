"""Blobs as objects of a Google Cloud Storage bucket, through its blocking client in threads of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from trunkline_runtime.errors import TrunklineError, Unavailable
from trunkline_runtime.observe import logs

from trunkline_audio.media.blobs.base import CHUNK, BlobNotFound, BlobStat, checked, checked_range
from trunkline_audio.media.blobs.failures import REFUSED, UNAVAILABLE, is_of_the_disk, is_passing, unavailable
from trunkline_audio.media.blobs.parts import new_file, write_part
from trunkline_audio.media.blobs.settings import BlobSettings

log = logs.get_logger(__name__)

T = TypeVar("T")

TIMEOUT = (5.0, 20.0)
"""Seconds to connect, and between two bytes of an answer."""
_SENT_AT_ONCE = 8 * 1024 * 1024  # of an upload, in memory; a smaller blob goes in one request
_READ_AT_ONCE = 4 * 1024 * 1024
_LARGEST = 2 * 1024**3  # no recording is larger: see fetch_max_bytes
_CONTENTIONS = 20  # each time another writer was first
_CREDENTIALS_SECONDS = 5.0
_SHA256 = "sha256"


class GcsBlobs:
    """Blobs as objects whose names begin with the settings' prefix.

    An object appears when its last byte was received, and an upload names the generation that it replaces: repeating it
    harms nothing. What comes and goes is written to `scratch` first, and removed from there. Entering looks at
    the bucket in the background, so that a wrong one is told in the log at once.
    """

    def __init__(self, settings: BlobSettings, scratch: Path) -> None:
        self._settings = settings
        self._scratch = scratch
        self._threads = ThreadPoolExecutor(settings.requests_at_once, thread_name_prefix="gcs")
        self._clients = threading.local()  # a client's connections are for one thread
        self._credentials = CloudCredentials(settings.quota_project)
        self._closed = threading.Event()
        self._looking: asyncio.Task[None] | None = None
        self._told = ""

    async def __aenter__(self) -> Self:
        """Begin to look at the bucket; returns at once."""
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give up what is under way: nothing of it stays."""
        self._closed.set()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> BlobStat:
        """Keeps what `chunks` give. Raises OSError when the disk fails, and Unavailable."""
        checked(key)
        part = self._scratch / uuid.uuid4().hex
        kept = await write_part(part, chunks)
        try:
            await self._run(partial(self._upload, key, part, kept))
        finally:
            await asyncio.to_thread(_discard, part)
        return kept

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of a range, of one generation; Unavailable where the bucket ends to answer half-way."""
        checked_range(start, end)
        generation, size = await self._run(partial(self._found, checked(key)))
        end = size if end is None else min(end, size)
        while start < end:
            until = min(start + _READ_AT_ONCE, end)
            piece = await self._run(partial(self._range, key, generation, start, until))
            for at in range(0, len(piece), CHUNK):
                yield piece[at : at + CHUNK]
            start = until

    def uri(self, key: str) -> str:
        """The name by which Google's services find a blob: gs://bucket/folder/key."""
        return f"gs://{self._settings.bucket_name}/{self._name(key)}"

    async def size(self, key: str) -> int:
        """The bytes of a blob. Raises BlobNotFound."""
        return (await self._run(partial(self._found, checked(key))))[1]

    async def delete(self, key: str) -> bool:
        """Deletes a blob; False when there was none."""
        return await self._run(partial(self._delete, self._name(key)))

    async def delete_folder(self, folder: str, most: int) -> int:
        """Deletes objects under a folder; how many. A folder is nothing but its objects."""
        names = await self._run(partial(self._listed, f"{self._name(folder)}/", most))
        return sum(await asyncio.gather(*(self._run(partial(self._delete, name)) for name in names)))

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        """A copy in the scratch folder."""
        path = self._scratch / uuid.uuid4().hex
        try:
            await self._run(partial(self._download, checked(key), path))
            yield path
        finally:
            await asyncio.to_thread(_discard, path)

    def _name(self, key: str) -> str:
        return self._settings.prefix + checked(key)

    async def _look(self) -> None:
        with contextlib.suppress(Unavailable):  # it is in the log
            await self._run(self._there)

    async def _run(self, work: Callable[[Any, threading.Event], T]) -> T:
        """Do `work` with a bucket in a thread; it looks at the event now and then, which says that nobody waits."""
        left = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._work, work, left)
        except asyncio.CancelledError:
            left.set()
            raise
        except RuntimeError:  # the threads are gone
            if not self._closed.is_set():
                raise
            raise Unavailable("the service is stopping", reason=UNAVAILABLE) from None

    def _work(self, work: Callable[[Any, threading.Event], T], left: threading.Event) -> T:
        try:
            result = work(self._bucket(), left)
        except (BlobNotFound, TrunklineError):
            raise
        except Exception as error:
            if is_of_the_disk(error):
                raise
            told = unavailable(error, self._settings.bucket_name)
            self._tell(told.message, refused=told.reason == REFUSED)
            raise told from None
        self._told = ""
        return result

    def _tell(self, problem: str, *, refused: bool) -> None:
        if problem != self._told and not self._closed.is_set():
            self._told = problem
            said = log.error if refused else log.warning
            said("blobs_refused" if refused else "blobs_unavailable", problem=problem)

    def _bucket(self) -> Any:
        if not hasattr(self._clients, "bucket"):
            self._clients.bucket = open_bucket(self._settings, self._credentials.found())
        return self._clients.bucket

    @property
    def _repeated(self) -> dict[str, Any]:
        from google.api_core.retry import Retry  # noqa: PLC0415 -- loaded where a bucket is used

        retry = Retry(
            predicate=lambda error: not self._closed.is_set() and is_passing(error),
            initial=0.2,
            maximum=5.0,
            timeout=self._settings.patience_seconds,
        )
        return {"retry": retry, "timeout": TIMEOUT}

    def _upload(self, key: str, part: Path, kept: BlobStat, bucket: Any, left: threading.Event) -> None:
        from google.api_core.exceptions import PreconditionFailed  # noqa: PLC0415

        replaced = 0  # what was never there has generation 0
        for _ in range(_CONTENTIONS):
            blob = bucket.blob(self._name(key), chunk_size=_SENT_AT_ONCE)
            blob.metadata = {_SHA256: kept.sha256}
            try:
                with part.open("rb") as file:
                    blob.upload_from_file(
                        _Watched(file, left, self._closed),
                        size=kept.size,
                        content_type="application/octet-stream",
                        if_generation_match=replaced,
                        checksum="crc32c",
                        **self._repeated,
                    )
                return
            except PreconditionFailed:
                there = bucket.get_blob(self._name(key), **self._repeated)
            if (
                there is not None
                and there.size == kept.size
                and (there.metadata or {}).get(_SHA256) == kept.sha256
            ):
                return  # an answer was lost on its way, or another writer had the same bytes
            replaced = 0 if there is None else there.generation
        raise Unavailable("others keep writing the same blob", reason="BLOBS_CONTENDED", retry_after=1.0)

    def _found(self, key: str, bucket: Any, _left: threading.Event) -> tuple[int, int]:
        """Return a blob's generation and size."""
        blob = bucket.get_blob(self._name(key), **self._repeated)
        if blob is None:
            raise self._absent(key, bucket)
        return blob.generation, blob.size

    def _range(
        self, key: str, generation: int, start: int, end: int, bucket: Any, _left: threading.Event
    ) -> bytes:
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        blob = bucket.blob(self._name(key), generation=generation)
        try:
            piece: bytes = blob.download_as_bytes(
                start=start, end=end - 1, raw_download=True, checksum=None, **self._repeated
            )
        except NotFound:
            raise self._absent(key, bucket) from None
        return piece

    def _download(self, key: str, path: Path, bucket: Any, left: threading.Event) -> None:
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        try:
            with new_file(path) as file:
                blob = bucket.blob(self._name(key))
                watched = _Watched(file, left, self._closed)
                blob.download_to_file(watched, raw_download=True, checksum="crc32c", **self._repeated)
        except NotFound:
            raise self._absent(key, bucket) from None
        finally:
            if left.is_set():  # whoever waited has removed it, or found nothing to remove
                _discard(path)

    def _delete(self, name: str, bucket: Any, _left: threading.Event) -> bool:
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        try:
            bucket.delete_blob(name, **self._repeated)
        except NotFound:
            self._there(bucket)
            return False
        return True

    def _listed(self, prefix: str, most: int, bucket: Any, _left: threading.Event) -> list[str]:
        fields = "items(name),nextPageToken"
        found = bucket.list_blobs(prefix=prefix, max_results=most, fields=fields, **self._repeated)
        return [blob.name for blob in found]

    def _absent(self, key: str, bucket: Any) -> BlobNotFound:
        """Return the error for an object that is not there, once it is sure that the bucket is."""
        self._there(bucket)
        return BlobNotFound(key)

    def _there(self, bucket: Any, _left: threading.Event | None = None) -> None:
        """Ask for one name: that needs no right that the service does not need anyway."""
        list(bucket.list_blobs(max_results=1, fields="items(name)", **self._repeated))


def problem_of(settings: BlobSettings) -> str:
    """Ask the bucket for one name; what is wrong with it, empty for nothing. Takes some seconds at most."""
    try:
        bucket = open_bucket(settings, CloudCredentials(settings.quota_project).found())
        list(bucket.list_blobs(max_results=1, fields="items(name)", retry=None, timeout=TIMEOUT))
    except Exception as error:
        return unavailable(error, settings.bucket_name).message
    return ""


def open_bucket(settings: BlobSettings, credentials: Any) -> Any:
    """Return the bucket of a new client. STORAGE_EMULATOR_HOST names another place that is asked, without TLS."""
    from google.cloud.storage import Client  # noqa: PLC0415

    return Client(project=None, credentials=credentials).bucket(settings.bucket_name)


class CloudCredentials:
    """The environment's credentials, looked for once; where there are none, again after some seconds."""

    def __init__(self, quota_project: str) -> None:
        self._quota_project = quota_project
        self._lock = threading.Lock()
        self._credentials: Any = None
        self._problem: tuple[float, Exception] | None = None

    def found(self) -> Any:
        """Return them; None for an emulator. Raises google.auth's errors."""
        with self._lock:
            if self._credentials is None and not emulator():
                if self._problem is not None and time.monotonic() < self._problem[0]:
                    raise self._problem[1]
                try:
                    self._credentials = _environments(self._quota_project)
                except Exception as error:
                    self._problem = (time.monotonic() + _CREDENTIALS_SECONDS, error)
                    raise
            return self._credentials


def emulator() -> str:
    """Return where the emulator is, as the client library looks for it; empty for Google itself."""
    return os.environ.get("STORAGE_EMULATOR_HOST", "")


def _environments(quota_project: str) -> Any:
    import google.auth  # noqa: PLC0415

    scopes = ["https://www.googleapis.com/auth/devstorage.full_control"]
    return google.auth.default(scopes=scopes, quota_project_id=quota_project or None)[0]


class _Left(Exception):
    """Nobody waits any more."""


class _Watched:
    """A file for the client library that fails as soon as nobody waits for it."""

    def __init__(self, file: IO[bytes], *gone: threading.Event) -> None:
        self._file = file
        self._gone = gone
        self._size = 0
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read what is sent."""
        self._look()
        return self._file.read(size)

    def write(self, piece: bytes) -> int:
        """Write what came."""
        self._look()
        self._size += len(piece)
        if self._size > _LARGEST:
            raise Unavailable(f"the object has more than {_LARGEST} bytes", reason=REFUSED)
        return self._file.write(piece)

    def flush(self) -> None:
        """Write what waits."""
        self._file.flush()

    def _look(self) -> None:
        if any(event.is_set() for event in self._gone):
            raise _Left


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)
