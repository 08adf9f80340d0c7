"""The calls that the store makes of Spanner, each with a deadline and errors of our own.

Over the generated client of google-cloud-spanner: its hand-written layers repeat UNAVAILABLE without end, take
locks that a failed first statement leaves held, and give commits no deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import grpc
from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient
from google.cloud.spanner_admin_database_v1.services.database_admin.transports.grpc import (
    DatabaseAdminGrpcTransport,
)
from google.cloud.spanner_v1 import SpannerClient, types
from google.cloud.spanner_v1.services.spanner.transports.grpc import SpannerGrpcTransport
from google.protobuf.struct_pb2 import ListValue, Value

from trunkline_store.errors import StoreError, StoreUnavailable
from trunkline_store.spanner.address import Address
from trunkline_store.spanner.answers import Result, parts_of, result_of
from trunkline_store.spanner.deadline import Deadline, Reachability
from trunkline_store.spanner.errors import (
    DatabaseMissing,
    OutOfTime,
    TransactionLost,
    translate,
    worth_repeating,
)
from trunkline_store.spanner.values import Rows, TypeCode, to_value, type_of

T = TypeVar("T")
# What a commit may hold, and a little more: bodies of receipts come whole. The last is also for how long the kernel
# keeps what nobody takes: until then neither a deadline nor a cut ends a call whose request is larger than its buffer.
_CHANNEL = {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 5_000,
}
_LEADER = ("x-goog-spanner-route-to-leader", "true")


class Client:
    """One database through one channel; safe for use by many threads."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._line = Reachability()
        self._resource = ("google-cloud-resource-prefix", address.name)
        self._channel: grpc.Channel | None = None
        if address.emulator:
            self._channel = grpc.insecure_channel(address.emulator, options=list(_CHANNEL.items()))
            self._data = SpannerClient(transport=SpannerGrpcTransport(channel=self._channel))
        else:
            try:
                self._data = SpannerClient(transport=partial(SpannerGrpcTransport, channel=_channel))
            except Exception as exc:
                raise translate(exc) from exc
        self._admin: DatabaseAdminClient | None = None
        self._admin_lock = threading.Lock()

    def close(self) -> None:
        """Close the channel."""
        transports: list[Any] = [self._data.transport]
        if self._admin is not None:
            transports.append(self._admin.transport)
        for transport in transports:
            transport.close()
        if self._channel is not None:
            self._channel.close()

    def deadline(self, seconds: float) -> Deadline:
        """Return a deadline for something that is done through this client."""
        return Deadline(seconds, self._line)

    def silent_for(self) -> float:
        """Return for how many seconds Spanner has owed an answer: 0 when it owes none."""
        return self._line.silent_for()

    def cut(self) -> None:
        """Break off every call that is under way and refuse what comes later: OutOfTime."""
        self._line.cut()
        self.close()

    def create_sessions(self, count: int, deadline: Deadline) -> list[str]:
        """Create that many sessions; their names."""
        names: list[str] = []
        while len(names) < count:
            request = types.BatchCreateSessionsRequest(
                database=self.address.name, session_count=min(100, count - len(names))
            )
            made = self._repeated(self._data.batch_create_sessions, request, deadline)
            names += [session.name for session in made.session]
        return names

    def delete_session(self, session: str, deadline: Deadline) -> None:
        """Give a session back."""
        self._call(self._data.delete_session, types.DeleteSessionRequest(name=session), deadline)

    def begin(self, session: str, deadline: Deadline) -> bytes:
        """Begin a read-write transaction; its id."""
        request = types.BeginTransactionRequest(session=session, options=_READ_WRITE)
        made: bytes = self._call(self._data.begin_transaction, request, deadline).id
        return made

    def execute(
        self,
        session: str,
        selector: types.TransactionSelector,
        sql: str,
        parameters: Sequence[Any] | Mapping[str, Any],
        deadline: Deadline,
        sequence: int = 0,
        *,
        leader: bool = False,
    ) -> Result:
        """Run a query or a DML statement and read all it gives; `leader` for what belongs to a write."""
        request = types.ExecuteSqlRequest(session=session, transaction=selector, sql=sql, seqno=sequence)
        message = types.ExecuteSqlRequest.pb(request)
        named = parameters.items() if isinstance(parameters, Mapping) else _numbered(parameters)
        for name, value in named:
            message.params.fields[name].CopyFrom(to_value(value))
            _declare(message.param_types, name, value)
        left = deadline.left()
        with self._asking():
            stream = self._data.execute_streaming_sql(
                request=request, timeout=left, retry=None, metadata=self._metadata(leader)
            )
            parts = list(parts_of(stream))
        return result_of(parts)

    def commit(self, session: str, transaction: bytes, deadline: Deadline) -> None:
        """Commit; one call, which may be made again: an id is committed once."""
        request = types.CommitRequest(session=session, transaction_id=transaction)
        self._call(self._data.commit, request, deadline)

    def rollback(self, session: str, transaction: bytes, deadline: Deadline) -> None:
        """Let go of a transaction's locks."""
        request = types.RollbackRequest(session=session, transaction_id=transaction)
        self._call(self._data.rollback, request, deadline)

    def insert(
        self, session: str, table: str, columns: Sequence[str], rows: Iterable[ListValue], deadline: Deadline
    ) -> None:
        """Insert rows by one blind Commit of mutations; one call, not repeated."""
        request = types.CommitRequest(
            session=session,
            single_use_transaction=_READ_WRITE,
            mutations=[types.Mutation(insert=types.Mutation.Write(table=table, columns=columns))],
        )
        message = types.CommitRequest.pb(request)
        if self.address.commit_delay_ms:
            message.max_commit_delay.FromMilliseconds(self.address.commit_delay_ms)
        message.mutations[0].insert.values.extend(rows)
        self._call(self._data.commit, request, deadline)

    def read_row(
        self, session: str, table: str, columns: Sequence[str], key: ListValue, deadline: Deadline
    ) -> list[Value] | None:
        """Return a row by its key as it came over the wire, None if there is none."""
        request = types.ReadRequest(session=session, table=table, columns=columns)
        types.ReadRequest.pb(request).key_set.keys.append(key)
        found = types.ResultSet.pb(self._call(self._data.read, request, deadline)).rows
        return list(found[0].values) if found else None

    def change_schema(self, statements: Sequence[str], deadline: Deadline) -> None:
        """Run DDL statements in order and wait for them; those before a failing one stay."""
        with self._admin_lock:
            if self._admin is None:
                transport = DatabaseAdminGrpcTransport(channel=self._channel) if self._channel else None
                self._admin = DatabaseAdminClient(transport=transport)
        try:
            operation: Any = self._admin.update_database_ddl(
                database=self.address.name, statements=list(statements), timeout=deadline.left(), retry=None
            )
            operation.result(timeout=deadline.left())
        except Exception as exc:
            raise translate(exc) from exc

    def _metadata(self, leader: bool) -> tuple[tuple[str, str], ...]:
        # Snapshots are served by the nearest replica.
        return (self._resource, _LEADER) if leader else (self._resource,)

    def _call(self, method: Callable[..., T], request: Any, deadline: Deadline) -> T:
        left = deadline.left()
        with self._asking():
            return method(request=request, timeout=left, retry=None, metadata=self._metadata(True))

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Raise the store's errors for one call, and note on the line whether it was answered."""
        self._line.asked()
        answered = True
        try:
            yield
        except Exception as exc:
            error = translate(exc)
            answered = _is_answer(error)
            if self._line.is_cut and not isinstance(error, StoreError):  # the channel is closed, it says
                raise OutOfTime("the database is being closed") from exc
            raise error from exc
        finally:
            self._line.ended(answered=answered)

    def _repeated(self, method: Callable[..., T], request: Any, deadline: Deadline) -> T:
        attempt = 0
        while True:
            try:
                return self._call(method, request, deadline)
            except StoreUnavailable as exc:
                if isinstance(exc, TransactionLost) or not worth_repeating(exc):
                    raise
                try:
                    deadline.pause(attempt)
                except OutOfTime as late:
                    raise OutOfTime(f"{late}: {exc}") from exc
                attempt += 1


def _channel(host: str, *, options: Sequence[tuple[str, Any]], **settings: Any) -> grpc.Channel:
    """Do as the generated client does; its own options go before ours."""
    both = {**_CHANNEL, **dict(options)}
    return SpannerGrpcTransport.create_channel(host, options=list(both.items()), **settings)


def _is_answer(error: BaseException) -> bool:
    """Tell whether an error was said by Spanner, not by whoever could not reach it."""
    return not isinstance(error, StoreUnavailable) or isinstance(error, TransactionLost | DatabaseMissing)


_READ_WRITE = types.TransactionOptions(read_write=types.TransactionOptions.ReadWrite())


def begin_read_write() -> types.TransactionSelector:
    """Return the selector of a statement that begins a read-write transaction."""
    return types.TransactionSelector(begin=_READ_WRITE)


def begin_read_only(staleness: timedelta | None) -> types.TransactionSelector:
    """Return the selector of a statement that begins a snapshot, that old if told."""
    if staleness:
        options = types.TransactionOptions.ReadOnly(exact_staleness=staleness)
    else:
        options = types.TransactionOptions.ReadOnly(strong=True)
    return types.TransactionSelector(begin=types.TransactionOptions(read_only=options))


def going_on(transaction: bytes) -> types.TransactionSelector:
    """Return the selector of a statement inside a transaction."""
    return types.TransactionSelector(id=transaction)


def _numbered(parameters: Sequence[Any]) -> Iterable[tuple[str, Any]]:
    return ((f"p{index}", value) for index, value in enumerate(parameters))


def _declare(declared: Any, name: str, value: Any) -> None:
    if isinstance(value, Rows):
        element = declared[name]
        element.code = TypeCode.ARRAY
        element.array_element_type.code = TypeCode.STRUCT
        for field, kind in value.fields:
            added = element.array_element_type.struct_type.fields.add()
            added.name = field
            added.type_.code = kind
        return
    code = type_of(value)
    if code is not None:
        declared[name].code = code
