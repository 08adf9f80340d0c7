"""A stand-in for Vertex AI's PredictionService: the real messages over real gRPC, with answers that a test scripts."""

import contextlib
import json
import threading
import time
from concurrent import futures

import grpc
from google.cloud import aiplatform_v1 as vertex
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from trunkline_ai.engines.prompted import PromptedEngine
from trunkline_ai.engines.vertex.engine import VertexEngine
from trunkline_ai.engines.vertex.settings import VertexSettings

from tests.standins.completing_ai import least

SERVICE = "google.cloud.aiplatform.v1.PredictionService"
Finish = vertex.Candidate.FinishReason


def chunk(text="", finish=0, *, thought=False, **more):
    part = vertex.Part(text=text, thought=thought)
    candidate = vertex.Candidate(content=vertex.Content(role="model", parts=[part]), finish_reason=finish)
    return vertex.GenerateContentResponse(candidates=[candidate], model_version="gemini-x-001", **more)


def counted(read=120, wrote=30, thought=0):
    return vertex.GenerateContentResponse.UsageMetadata(
        prompt_token_count=read, candidates_token_count=wrote, thoughts_token_count=thought
    )


def answer(text, finish=Finish.STOP, pieces=3, **usage):
    size = max(1, len(text) // pieces)
    parts = [chunk(text[i : i + size]) for i in range(0, len(text), size)]
    return [*parts, chunk("", finish, usage_metadata=counted(**usage))]


def blocked():
    feedback = vertex.GenerateContentResponse.PromptFeedback(block_reason=1, block_reason_message="no")
    return [vertex.GenerateContentResponse(prompt_feedback=feedback, usage_metadata=counted(wrote=0))]


class Refused(Exception):
    """What the service is to answer with, after `first` pieces of an answer."""

    def __init__(self, code, message="no", retry_seconds=None, first=()):
        super().__init__(message)
        self.first = first
        self.status = status_pb2.Status(code=code.value[0], message=message)
        if retry_seconds is not None:
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromMilliseconds(int(retry_seconds * 1000))
            self.status.details.add().Pack(info)


class Slow:
    """Pieces, each after so many seconds."""

    def __init__(self, pieces, seconds):
        self.pieces = pieces
        self.seconds = seconds


class Vertex:
    """Serves on a free port from threads of its own; answers its script, then the least value of the schema."""

    def __init__(self):
        self.script = []
        self.asked = []
        self.cancelled = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        handler = grpc.unary_stream_rpc_method_handler(
            self._stream,
            vertex.GenerateContentRequest.deserialize,
            vertex.GenerateContentResponse.serialize,
        )
        generic = grpc.method_handlers_generic_handler(SERVICE, {"StreamGenerateContent": handler})
        self._server.add_generic_rpc_handlers((generic,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def _stream(self, request, context):
        self.asked.append(request)
        context.add_callback(lambda: context.is_active() or self.cancelled.set())
        if self.script:
            told = self.script.pop(0)
        else:
            schema = request.generation_config._pb.response_json_schema
            told = answer(json.dumps(least(json_format.MessageToDict(schema))))
        if isinstance(told, Refused):
            yield from told.first
            context.abort_with_status(rpc_status.to_status(told.status))
        for piece in told.pieces if isinstance(told, Slow) else told:
            if isinstance(told, Slow):
                until = time.monotonic() + told.seconds
                while time.monotonic() < until and context.is_active():
                    time.sleep(0.01)
            yield piece

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(None)


def settings(it, **more):
    given = {"project": "p-1", "model": "gemini-x", "endpoint": f"http://127.0.0.1:{it.port}"}
    return VertexSettings(**{**given, "patience_seconds": 5.0, **more})


@contextlib.asynccontextmanager
async def vertex_model(**more):
    """The engine below the tasks, at a service of its own."""
    with Vertex() as it:
        async with VertexEngine(settings(it, **more)) as model:
            yield model


@contextlib.asynccontextmanager
async def vertex_engine():
    """The engine with the tasks, at a service of its own."""
    with Vertex() as it:
        async with PromptedEngine(VertexEngine(settings(it))) as engine:
            yield engine
