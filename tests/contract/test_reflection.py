"""Each service, in a process of its own, describes by reflection all that it lists: what grpcurl needs of it."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from trunkline_cli.suite.processes import Suite
from trunkline_runtime.identity import access

from tests.forked import launch
from tools.bench.calls import INSTANT

SERVICES = ("tenant", "audio", "ai", "gateway")
OPERATIONS = "google.longrunning.Operations"


class Stranger:
    """Somebody without any .proto file, who believes what reflection says."""

    def __init__(self, channel: grpc.Channel):
        self._stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        self._pool = DescriptorPool()
        self._have: set[str] = set()

    def list(self) -> list[str]:
        answer = self._ask(reflection_pb2.ServerReflectionRequest(list_services=""))
        return [service.name for service in answer.list_services_response.service]

    def describe(self, symbol: str) -> ServiceDescriptor | Descriptor:
        """Ask for a symbol, and for every file that its own stands on."""
        self._take(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
        try:
            return self._pool.FindServiceByName(symbol)
        except KeyError:
            return self._pool.FindMessageTypeByName(symbol)

    def _take(self, request: reflection_pb2.ServerReflectionRequest) -> None:
        for raw in self._ask(request).file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(raw)
            if file.name in self._have:
                continue
            self._have.add(file.name)
            for needed in file.dependency:
                if needed not in self._have:
                    self._take(reflection_pb2.ServerReflectionRequest(file_by_filename=needed))
            self._pool.AddSerializedFile(raw)

    def _ask(
        self, request: reflection_pb2.ServerReflectionRequest
    ) -> reflection_pb2.ServerReflectionResponse:
        [answer] = self._stub.ServerReflectionInfo(iter([request]), timeout=10)
        assert not answer.HasField("error_response"), f"{request}: {answer.error_response.error_message}"
        return answer


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    # In one process with others a service would find what they have imported.
    suite = Suite(tmp_path_factory.mktemp("reflection"), free_ports=True, launch=launch, env=INSTANT)
    try:
        suite.start(*SERVICES)
        yield suite
    finally:
        suite.stop()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_describes_every_symbol_that_it_lists(suite: Suite, service: str) -> None:
    with grpc.insecure_channel(suite.grpc[service]) as channel:
        stranger = Stranger(channel)
        listed = stranger.list()
        ours = {name for name in listed if name.startswith("trunkline.")}
        served = {method.split("/")[1] for method in access.TABLE}
        assert ours == {name for name in served if name.startswith(f"trunkline.{service}.")}
        assert OPERATIONS in listed
        for name in listed:
            found = stranger.describe(name)
            assert found.full_name == name
            for method in found.methods:
                for message in (method.input_type, method.output_type):
                    assert stranger.describe(message.full_name).full_name == message.full_name
