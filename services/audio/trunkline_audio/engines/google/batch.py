"""Long recordings, handed over through a bucket: BatchRecognize, in Google's own time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar

from trunkline_runtime.engines.base import NOT_READY, EngineError
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe import logs

from trunkline_audio.engines import windows
from trunkline_audio.engines.base import EngineInput, EngineResult, Submission
from trunkline_audio.engines.google import answers, requests
from trunkline_audio.engines.google.answers import HeardWindow
from trunkline_audio.engines.google.engine import GoogleEngine, sound_of, told
from trunkline_audio.engines.google.failures import is_absent, status_error
from trunkline_audio.engines.google.models import traits_of
from trunkline_audio.engines.google.requests import RequestHints
from trunkline_audio.engines.google.settings import GoogleSettings
from trunkline_audio.engines.windows import Window
from trunkline_audio.media.blobs.base import BlobNotFound
from trunkline_audio.media.blobs.failures import REFUSED
from trunkline_audio.media.prepared import Utterance

log = logs.get_logger(__name__)

T = TypeVar("T")

TRIES = 3
"""Of one file, where Google could not do it for a reason that passes."""
MOST_FILE_SECONDS = 3600.0
"""Of a file, so that it is encoded in a piece: 115 MB of samples."""
_CALL_SECONDS = 30.0
_DELETED_AT_ONCE = 1_000
_MANIFEST = "manifest.json"
_SOUND = "sound"


class Bucket(Protocol):
    """As much of a bucket of blobs (media/blobs/base.py) as recordings need on their way; entered with the engine."""

    def uri(self, key: str) -> str:
        """Return the name by which Google's services find a blob."""

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> object:
        """Keep what `chunks` give, replacing what was there. Raises Unavailable."""

    def read(self, key: str) -> AsyncIterator[bytes]:
        """Give a blob. Raises BlobNotFound before the first piece, and Unavailable."""

    async def delete_folder(self, folder: str, most: int) -> int:
        """Delete the blobs of a folder, `most` at most; how many. Raises Unavailable."""

    async def __aenter__(self) -> Any:
        """Begin to use it."""

    async def __aexit__(self, *_: object) -> Any:
        """Give up what is under way."""


@dataclass(frozen=True)
class _File:
    """One file of a submission: what is in it, and Google's operation on it, the `tries`-th."""

    uri: str
    window: Window
    operation: str
    tries: int = 1


@dataclass(frozen=True)
class _Manifest:
    """What a poll has to know of a submission, beside what Google knows: kept in the bucket. It holds no word."""

    asked: RequestHints
    lanes: int
    speech_seconds: float
    files: tuple[_File, ...]

    def body(self) -> bytes:
        """As it is kept."""
        files = [
            {
                "uri": file.uri,
                "operation": file.operation,
                "tries": file.tries,
                "lane": file.window.lane,
                "utterances": [[item.start, item.end, item.voice] for item in file.window.utterances],
            }
            for file in self.files
        ]
        asked = {
            "language": self.asked.language,
            "phrases": self.asked.phrases,
            "speakers": self.asked.speakers,
        }
        kept = {"asked": asked, "lanes": self.lanes, "speech_seconds": self.speech_seconds, "files": files}
        return json.dumps(kept).encode()

    @classmethod
    def of(cls, body: bytes) -> _Manifest:
        """Read it back."""
        kept = json.loads(body)
        asked = kept["asked"]
        return cls(
            RequestHints(asked["language"], tuple(asked["phrases"]), asked["speakers"]),
            kept["lanes"],
            kept["speech_seconds"],
            tuple(_file(item) for item in kept["files"]),
        )


def _file(item: Mapping[str, Any]) -> _File:
    lane = item["lane"]
    utterances = tuple(Utterance(lane, start, end, voice) for start, end, voice in item["utterances"])
    return _File(item["uri"], Window(lane, utterances), item["operation"], item["tries"])


def file_seconds(settings: GoogleSettings) -> float:
    """Return how long a file may be, in seconds of speech."""
    traits = traits_of(settings.model)
    times = settings.word_times and traits.word_times
    return min(traits.longest_with_times if times else traits.longest_seconds, MOST_FILE_SECONDS) - 1.0


class GoogleBatchEngine(GoogleEngine):
    """Also a SubmittingEngine: what is longer than a minute goes to Google through a bucket of the settings.

    Only speech is handed over, in as few files as the model allows, each with an operation of its own. A submission's
    name is a folder of the bucket. Its manifest names Google's operations, so that any process can ask about them.
    """

    def __init__(self, settings: GoogleSettings, bucket: Bucket) -> None:
        super().__init__(settings)
        self._bucket = bucket
        self.capabilities = replace(self.capabilities, submits=True, longest_seconds=settings.batch_seconds)

    async def __aenter__(self) -> Self:
        """Begin to load the client library, and to look at the bucket; returns at once."""
        await self._bucket.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *_: object) -> None:
        """Close the channel and the bucket."""
        try:
            await super().__aexit__(*_)
        finally:
            await self._bucket.__aexit__(None, None, None)

    async def submit(self, recording: EngineInput) -> str:
        """Hand a recording over; the folder of its submission. Raises EngineError."""
        await self._ready()
        folder = (
            f"s.{recording.tenant_id}/{uuid.uuid4().hex}"  # a tenant may begin with a dash, and a key not
        )
        files: list[_File] = []
        try:
            async with recording.prepared() as audio:
                asked = self._asked(recording, audio.lanes)
                for window in windows.packed(audio.utterances, file_seconds(self._settings)):
                    key = f"{folder}/{_SOUND}/{len(files)}.flac"
                    await self._stored(key, await asyncio.to_thread(sound_of, audio, window))
                    uri = self._bucket.uri(key)
                    async with self._quota.turn(recording.tenant_id, audio.scratch.name, recording.priority):
                        files.append(_File(uri, window, await self._begun(asked, uri)))
                manifest = _Manifest(asked, audio.lanes, audio.speech_seconds, tuple(files))
            await self._stored(f"{folder}/{_MANIFEST}", manifest.body())
        except BaseException:  # it has no name yet by which anybody could give it up
            await asyncio.shield(self._undone(folder, files))
            raise
        return folder

    async def poll(self, submission: str) -> Submission:
        """Tell how far it is, counted by what Google says of each file. Raises EngineError."""
        await self._ready()
        manifest = await self._manifest(submission)
        seconds, heard, files = 0.0, list[HeardWindow](), list[_File]()
        waits_for: EngineError | None = None
        for file in manifest.files:
            operation = await self._operation(file.operation)
            if not operation.done:
                seconds += file.window.seconds * _progress(operation) / 100
                files.append(file)
                continue
            try:
                heard.append(_answered(file, operation))
                seconds += file.window.seconds
                files.append(file)
            except EngineError as error:
                of_the_set_up = error.reason == NOT_READY  # nobody's recording is lost over that
                if of_the_set_up:
                    waits_for = error
                elif not error.transient or file.tries == TRIES:
                    raise EngineError(error.reason, str(error), transient=False) from None
                log.warning(
                    "speech_file_again", engine=self.name, operation=file.operation, problem=str(error)
                )
                again = await self._begun(manifest.asked, file.uri)
                tries = file.tries if of_the_set_up else file.tries + 1
                files.append(replace(file, operation=again, tries=tries))
        if tuple(files) != manifest.files:
            manifest = replace(manifest, files=tuple(files))
            await self._stored(f"{submission}/{_MANIFEST}", manifest.body())
        if waits_for is not None:
            raise waits_for
        if len(heard) < len(files):
            return Submission(seconds)
        # The manifest stays: whoever asks again, after a restart, gets the same answer from Google's operations.
        await self._of_bucket(self._bucket.delete_folder(f"{submission}/{_SOUND}", _DELETED_AT_ONCE))
        result = EngineResult(
            self.name, manifest.asked.language, lanes=manifest.lanes, speech_seconds=manifest.speech_seconds
        )
        return Submission(seconds, told(result, heard, self._price()) if heard else result)

    async def cancel(self, submission: str) -> None:
        """Have Google stop, and delete what was handed over. Raises EngineError."""
        await self._ready()
        with contextlib.suppress(_Gone):
            await self._undone(submission, (await self._manifest(submission)).files, strict=True)

    def _price(self) -> int:
        if self._settings.dynamic_batching:
            return self._settings.dynamic_price_micros_per_minute
        return self._settings.price_micros_per_minute

    async def _begun(self, asked: RequestHints, uri: str) -> str:
        operation: Any = await self._featured(
            asked,
            lambda asked: self._client.batch_recognize(
                request=requests.batch_request(self._settings, asked, uri), retry=None, timeout=_CALL_SECONDS
            ),
        )
        return str(operation.operation.name)

    async def _operation(self, name: str) -> Any:
        from google.longrunning import operations_pb2  # noqa: PLC0415

        request = operations_pb2.GetOperationRequest(name=name)
        return await self._of_operation(
            lambda: self._client.get_operation(request, retry=None, timeout=_CALL_SECONDS)
        )

    async def _of_operation(self, call: Any) -> Any:
        """Call about an operation, of which NOT_FOUND says nothing about the set-up. Raises EngineError."""

        async def known() -> Any:
            try:
                return await call()
            except Exception as error:
                if is_absent(error):
                    return None
                raise

        found = await self._called(known)
        if found is None:
            raise _gone()
        return found

    async def _manifest(self, submission: str) -> _Manifest:
        async def read() -> bytes:
            return b"".join([piece async for piece in self._bucket.read(f"{submission}/{_MANIFEST}")])

        try:
            return _Manifest.of(await self._of_bucket(read()))
        except BlobNotFound:
            raise _gone() from None

    async def _stored(self, key: str, body: bytes) -> None:
        async def whole() -> AsyncIterator[bytes]:
            yield body

        await self._of_bucket(self._bucket.put(key, whole()))

    async def _of_bucket(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except TrunklineError as error:
            if error.reason == REFUSED:  # somebody has to mend the set-up
                self._note_problem(error.message)
                raise EngineError(NOT_READY, error.message, transient=True) from None
            raise EngineError("ENGINE_UNAVAILABLE", error.message, transient=True) from None
        except OSError as error:
            told = f"the scratch folder cannot be written: {error.strerror}"
            raise EngineError("ENGINE_UNAVAILABLE", told, transient=True) from None

    async def _undone(self, folder: str, files: Sequence[_File], *, strict: bool = False) -> None:
        """Have Google stop, and delete what was uploaded; without `strict`, a failure is logged."""
        from google.longrunning import operations_pb2  # noqa: PLC0415

        try:
            for file in files:
                request = operations_pb2.CancelOperationRequest(name=file.operation)
                with contextlib.suppress(_Gone):
                    await self._of_operation(lambda request=request: self._cancelled(request))
            await self._of_bucket(self._bucket.delete_folder(folder, _DELETED_AT_ONCE))
        except EngineError as error:
            if strict:
                raise
            log.warning("speech_submission_not_undone", engine=self.name, folder=folder, problem=str(error))

    async def _cancelled(self, request: Any) -> bool:
        await self._client.cancel_operation(request, retry=None, timeout=_CALL_SECONDS)
        return True


class _Gone(EngineError):
    """There is no such submission."""


def _gone() -> _Gone:
    return _Gone("SUBMISSION_GONE", "Google has no such submission", transient=False)


def _progress(operation: Any) -> int:
    from google.cloud import speech_v2  # noqa: PLC0415

    metadata = speech_v2.OperationMetadata()
    if not operation.metadata.Unpack(speech_v2.OperationMetadata.pb(metadata)):
        return 0
    return min(100, max(0, metadata.progress_percent))


def _answered(file: _File, operation: Any) -> HeardWindow:
    """Return what was heard in a file. Raises EngineError: the operation's, or the file's own."""
    from google.cloud import speech_v2  # noqa: PLC0415

    if operation.HasField("error"):
        raise status_error(operation.error)
    response: Any = speech_v2.BatchRecognizeResponse()
    operation.response.Unpack(speech_v2.BatchRecognizeResponse.pb(response))
    result = response.results.get(file.uri)
    if result is None:
        raise EngineError("ENGINE_ANSWER", "Google's answer does not name the file", transient=True)
    if result.error.code:
        raise status_error(result.error)
    transcript = result.inline_result.transcript if "inline_result" in result else result.transcript
    heard = answers.heard(file.window, transcript)
    billed = response.total_billed_duration
    return replace(heard, billed_seconds=billed.total_seconds()) if billed else heard
