"""A stand-in for Google Speech-to-Text v2: the real messages over real gRPC, with answers that a test scripts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from datetime import timedelta
from typing import Any

import av
import grpc
from google.cloud import speech_v2
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from trunkline_audio.media.blobs.base import BlobNotFound

METHOD = "google.cloud.speech.v2.Speech"
LONGEST_SECONDS = 60.0
LARGEST_BYTES = 10 << 20
INVALID = grpc.StatusCode.INVALID_ARGUMENT
FEATURES = {
    "enable_word_time_offsets": "word_level_timestamps",
    "enable_word_confidence": "word_level_confidence",
    "enable_automatic_punctuation": "automatic_punctuation",
    "diarization_config": "speaker_diarization",
}
"""Field -> what the service calls it in a refusal."""


def seconds_of(content: bytes) -> float:
    """How long a file is, counted from its samples."""
    import io

    with av.open(io.BytesIO(content)) as container:
        assert len(container.streams.audio) == 1
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def words(seconds: float, text: str = "so this is what was said", language: str = "en-us") -> Any:
    """An answer whose words share the time evenly."""
    parts = text.split()
    each = seconds / len(parts)
    told = [
        speech_v2.WordInfo(
            word=part,
            start_offset=timedelta(seconds=n * each),
            end_offset=timedelta(seconds=(n + 1) * each),
            confidence=0.9,
        )
        for n, part in enumerate(parts)
    ]
    best = speech_v2.SpeechRecognitionAlternative(transcript=text, confidence=0.9, words=told)
    return speech_v2.SpeechRecognitionResult(alternatives=[best], language_code=language)


def answered(*results: Any, billed: float = 0.0) -> Any:
    metadata = speech_v2.RecognitionResponseMetadata(total_billed_duration=timedelta(seconds=billed))
    return speech_v2.RecognizeResponse(results=results, metadata=metadata)


class Refused(Exception):
    """What the service is to answer with."""

    def __init__(self, code: grpc.StatusCode, message: str, retry_seconds: float | None = None):
        super().__init__(message)
        self.status = status_pb2.Status(code=code.value[0], message=message)
        if retry_seconds is not None:
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromMilliseconds(int(retry_seconds * 1000))
            self.status.details.add().Pack(info)


class MemoryBucket:
    """A bucket (see engines/google/batch.py) in memory, with which the stand-in shares what was uploaded."""

    def __init__(self, name: str = "calls") -> None:
        self.name = name
        self.objects: dict[str, bytes] = {}
        self.failures: list[Exception] = []
        """What the next requests raise."""

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def uri(self, key: str) -> str:
        return f"gs://{self.name}/{key}"

    async def put(self, key: str, chunks: Any) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.objects[key] = b"".join([chunk async for chunk in chunks])

    async def read(self, key: str) -> Any:
        if key not in self.objects:
            raise BlobNotFound(key)
        yield self.objects[key]

    async def delete_folder(self, folder: str, most: int) -> int:
        keys = [key for key in self.objects if key.startswith(f"{folder}/")][:most]
        for key in keys:
            del self.objects[key]
        return len(keys)


class GoogleSpeech:
    """Serves on a free port from threads of its own until it is stopped; keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.script: list[Any] = []
        """What the next requests get, in order: an answer, or a Refused; then `answer` answers."""
        self.answer: Callable[[Any, float], Any] = lambda _, seconds: answered(words(seconds), billed=seconds)
        self.bucket = MemoryBucket()
        self.lacks: tuple[str, ...] = ()
        """Features that the model does not have, by the names of their fields."""
        self.batches: list[Any] = []
        self.operations: dict[str, Any] = {}
        self.polls = 1
        """How often an operation is asked about until it is done."""
        self.streams: list[Any] = []
        """Of each stream: its first message, and the sound that came with the others."""
        self.stream_script: list[Any] = []
        """What the next streams do: a Refused, or what is called with the seconds so far and gives responses."""
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        handlers = {
            "Recognize": grpc.unary_unary_rpc_method_handler(
                self._recognize, speech_v2.RecognizeRequest.deserialize, speech_v2.RecognizeResponse.serialize
            ),
            "BatchRecognize": grpc.unary_unary_rpc_method_handler(
                self._batch, speech_v2.BatchRecognizeRequest.deserialize, _bytes
            ),
            "StreamingRecognize": grpc.stream_stream_rpc_method_handler(
                self._stream,
                speech_v2.StreamingRecognizeRequest.deserialize,
                speech_v2.StreamingRecognizeResponse.serialize,
            ),
        }
        operations = {
            "GetOperation": grpc.unary_unary_rpc_method_handler(
                self._get, operations_pb2.GetOperationRequest.FromString, _bytes
            ),
            "CancelOperation": grpc.unary_unary_rpc_method_handler(
                self._cancel, operations_pb2.CancelOperationRequest.FromString, _bytes
            ),
        }
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(METHOD, handlers),
                grpc.method_handlers_generic_handler("google.longrunning.Operations", operations),
            )
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _scripted(self) -> Any:
        return self.script.pop(0) if self.script else None

    def _recognize(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.requests.append(request)
            scripted = self._scripted()
        try:
            return (
                scripted
                if scripted is not None and not isinstance(scripted, Refused)
                else self._judge(request, scripted)
            )
        except Refused as refused:
            context.abort_with_status(rpc_status.to_status(refused.status))

    def _judge(self, request: Any, refused: Refused | None) -> Any:
        if refused is not None:
            raise refused
        self._judge_config(request.config)
        if len(request.content) > LARGEST_BYTES:
            raise Refused(INVALID, "the request is larger than 10485760 bytes")
        seconds = seconds_of(request.content)
        if seconds > LONGEST_SECONDS:
            raise Refused(INVALID, "Audio can be of a maximum of 60 seconds.")
        return self.answer(request, seconds)

    def _judge_config(self, config: Any) -> None:
        if not config.language_codes or not config.model:
            raise Refused(INVALID, "language_codes and model are required")
        if len(config.language_codes[0]) < 4:
            raise Refused(
                INVALID, f'The language "{config.language_codes[0]}" is not supported by the model.'
            )
        for field, name in FEATURES.items():
            asked = field in config.features and bool(getattr(config.features, field, False))
            if name in self.lacks and (asked or (field == "diarization_config" and field in config.features)):
                raise Refused(INVALID, f"Recognizer does not support feature: {name}")
        sets = [one.inline_phrase_set for one in config.adaptation.phrase_sets]
        phrases = [phrase.value for one in sets for phrase in one.phrases]
        if len(phrases) > 5_000 or sum(map(len, phrases)) > 100_000 or any(len(one) > 100 for one in phrases):
            raise Refused(INVALID, "too many or too long phrases")
        if any(len(one.phrases) > 1_200 or not 0 <= one.boost <= 20 for one in sets) or len(sets) > 20:
            raise Refused(INVALID, "a phrase set is too large, or its boost is")

    def _batch(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.batches.append(request)
            scripted = self._scripted()
            name = f"projects/p1/locations/us/operations/{len(self.batches)}"
        try:
            if isinstance(scripted, Refused):
                raise scripted
            self._judge_config(request.config)
            output = request.recognition_output_config
            if not ("inline_response_config" in output or "gcs_output_config" in output):
                raise Refused(INVALID, "Recognition output config must be set.")
            if "inline_response_config" in output and len(request.files) != 1:
                raise Refused(INVALID, "Inline results are only supported for one file.")
        except Refused as refused:
            context.abort_with_status(rpc_status.to_status(refused.status))
        self.operations[name] = [0, request, scripted, []]
        return operations_pb2.Operation(name=name)

    def _get(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            scripted = self._scripted()
        if isinstance(scripted, Refused):
            context.abort_with_status(rpc_status.to_status(scripted.status))
        if request.name not in self.operations:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such operation")
        held = self.operations[request.name]
        held[0] += 1
        asked, batch, result, _ = held
        made = operations_pb2.Operation(name=request.name)
        percent = min(100, 100 * (asked - 1) // self.polls)
        made.metadata.Pack(
            speech_v2.OperationMetadata.pb(speech_v2.OperationMetadata(progress_percent=percent))
        )
        if asked <= self.polls:
            return made
        made.done = True
        if isinstance(result, OperationFailed):
            made.error.CopyFrom(result.status)
            return made
        if not held[3]:  # the sound may be deleted by the time it is asked again
            response = self._batch_response(batch.files[0].uri, batch, result)
            made.response.Pack(speech_v2.BatchRecognizeResponse.pb(response))
            held[3].append(made)
        return held[3][0]

    def _batch_response(self, uri: str, batch: Any, result: Any) -> Any:
        if isinstance(result, FileFailed):
            return speech_v2.BatchRecognizeResponse(
                results={uri: speech_v2.BatchRecognizeFileResult(error=result.status)}
            )
        seconds = seconds_of(self.bucket.objects[uri.removeprefix(f"gs://{self.bucket.name}/")])
        answer = self.answer(batch, seconds)
        transcript = speech_v2.BatchRecognizeResults(results=answer.results, metadata=answer.metadata)
        return speech_v2.BatchRecognizeResponse(
            results={
                uri: speech_v2.BatchRecognizeFileResult(
                    inline_result=speech_v2.InlineResult(transcript=transcript)
                )
            },
            total_billed_duration=answer.metadata.total_billed_duration,
        )

    def _cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.operations.pop(request.name, None) is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such operation")
        return empty_pb2.Empty()

    def _stream(self, messages: Any, context: grpc.ServicerContext) -> Any:
        first = next(messages)
        with self._lock:
            kept: list[Any] = [first, bytearray()]
            self.streams.append(kept)
            scripted = self.stream_script.pop(0) if self.stream_script else Spoken()
        try:
            self._judge_config(first.streaming_config.config)
            if isinstance(scripted, Refused):
                raise scripted
            for message in messages:
                if len(message.audio) > 15_360:
                    raise Refused(INVALID, "an audio chunk is larger than 15360 bytes")
                kept[1] += message.audio
                seconds = len(kept[1]) / 32_000
                if seconds > 300:
                    raise Refused(grpc.StatusCode.OUT_OF_RANGE, "Exceeded maximum allowed stream duration")
                yield from scripted(seconds, bytes(message.audio))
            yield from scripted.end(len(kept[1]) / 32_000)
        except Refused as refused:
            context.abort_with_status(rpc_status.to_status(refused.status))


class OperationFailed:
    """An operation that ends with an error."""

    def __init__(self, code: grpc.StatusCode, message: str):
        self.status = status_pb2.Status(code=code.value[0], message=message)


class FileFailed(OperationFailed):
    """An operation that ends well, and whose file has an error."""


class Spoken:
    """A stream's answers: a final result for each `every` seconds, and the rest at its end."""

    def __init__(self, every: float = 10.0, fails_at: float = 0.0, refused: Refused | None = None):
        self.every = every
        self.fails_at = fails_at
        self.refused = refused
        self.until = 0.0

    def __call__(self, seconds: float, _: bytes) -> Any:
        while self.every and seconds - self.until >= self.every:
            yield self._result(self.until + self.every)
        if self.fails_at and seconds >= self.fails_at and self.refused is not None:
            raise self.refused

    def end(self, seconds: float) -> Any:
        if seconds > self.until:
            yield self._result(seconds)

    def _result(self, until: float) -> Any:
        text = f"{until - self.until:.2f}"
        self.until = until
        best = speech_v2.SpeechRecognitionAlternative(transcript=text)
        partial = speech_v2.StreamingRecognitionResult(alternatives=[best], stability=0.1)
        final = speech_v2.StreamingRecognitionResult(
            alternatives=[best], is_final=True, result_end_offset=timedelta(seconds=until)
        )
        return speech_v2.StreamingRecognizeResponse(results=[final, partial])


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())
