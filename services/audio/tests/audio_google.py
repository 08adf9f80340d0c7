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
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

METHOD = "google.cloud.speech.v2.Speech"
LONGEST_SECONDS = 60.0
LARGEST_BYTES = 10 << 20


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


class GoogleSpeech:
    """Serves on a free port from threads of its own until it is stopped; keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.script: list[Any] = []
        """What the next requests get, in order: an answer, or a Refused; then `answer` answers."""
        self.answer: Callable[[Any, float], Any] = lambda _, seconds: answered(words(seconds), billed=seconds)
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        handler = grpc.unary_unary_rpc_method_handler(
            self._recognize, speech_v2.RecognizeRequest.deserialize, speech_v2.RecognizeResponse.serialize
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(METHOD, {"Recognize": handler}),)
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _recognize(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.requests.append(request)
            scripted = self.script.pop(0) if self.script else None
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
        if not request.config.language_codes or not request.config.model:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "language_codes and model are required")
        if len(request.content) > LARGEST_BYTES:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the request is larger than 10485760 bytes")
        seconds = seconds_of(request.content)
        if seconds > LONGEST_SECONDS:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "Audio can be of a maximum of 60 seconds.")
        return self.answer(request, seconds)
