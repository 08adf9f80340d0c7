"""What an operation is, as it is stored and as it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from trunkline_runtime.rpc.operations import operation_name


class OperationState(StrEnum):
    """Where an operation is in its life: it runs, or it ended in one of three ways."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Operation:
    """An operation as it is stored; `table.py` says what the serialised columns hold."""

    tenant_id: str
    operation_id: str
    kind: str
    state: OperationState
    request: bytes
    metadata: bytes
    response: bytes | None
    error: bytes | None
    problem: bytes | None
    attempts: int
    requested_by: str
    created_at: datetime
    ended_at: datetime | None
    expire_at: datetime | None

    @property
    def name(self) -> str:
        """The resource name."""
        return operation_name(self.tenant_id, self.operation_id)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.state is not OperationState.RUNNING

    def to_proto(self) -> operations_pb2.Operation:
        """Return the resource, whose metadata says how far it is."""
        message = operations_pb2.Operation(name=self.name, done=self.done, metadata=self._described())
        if self.response is not None:
            message.response.ParseFromString(self.response)
        elif self.error is not None:
            message.error.ParseFromString(self.error)
        return message

    def _described(self) -> AnyMessage:
        packed = AnyMessage.FromString(self.metadata)
        kind = descriptor_pool.Default().FindMessageTypeByName(packed.TypeName())
        metadata: Any = message_factory.GetMessageClass(kind)()
        packed.Unpack(metadata)
        progress = metadata.progress
        progress.attempts = self.attempts
        progress.create_time.FromDatetime(self.created_at)
        if self.ended_at is not None:
            progress.end_time.FromDatetime(self.ended_at)
        if self.expire_at is not None:
            progress.expire_time.FromDatetime(self.expire_at)
        if self.problem is not None:
            progress.problem.ParseFromString(self.problem)
        packed.Pack(metadata)
        return packed


def packed(message: Message) -> bytes:
    """Return a message as a serialised google.protobuf.Any."""
    whole = AnyMessage()
    whole.Pack(message)
    return whole.SerializeToString()
