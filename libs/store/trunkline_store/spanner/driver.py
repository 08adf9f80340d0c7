"""A PEP 249 face over the client, as little of it as SQLAlchemy needs; transactions are governed from outside.

A statement's rows are read whole when it is executed, so that whatever goes wrong goes wrong there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, Literal

from trunkline_store.errors import StoreError, StoreUnavailable
from trunkline_store.spanner.answers import Result
from trunkline_store.spanner.client import (
    Client,
    begin_read_only,
    begin_read_write,
    going_on,
)
from trunkline_store.spanner.deadline import Deadline
from trunkline_store.spanner.errors import CommitUnknown, OutOfTime, TransactionLost, worth_repeating

apilevel = "2.0"
threadsafety = 1
paramstyle = "format"

Mode = Literal["idle", "read", "write", "schema"]
_DDL = re.compile(r"\s*+(CREATE|ALTER|DROP|ANALYZE|RENAME)\b", re.IGNORECASE)
_QUERY = re.compile(r"\s*+(@\{[^}]*+\}\s*+)?(\(\s*+)*+(SELECT|WITH|FROM)\b", re.IGNORECASE)
_PLACE = re.compile(r"%(s|%)")


class Error(Exception):
    """What PEP 249 wants to exist; the store's own errors are raised instead."""


class Connection:
    """A session, and the transaction it is in; for one thread at a time."""

    def __init__(self, client: Client, session: str) -> None:
        self.client = client
        self.session = session
        self.lost: StoreUnavailable | None = None
        """Set once the transaction cannot commit any more: the callback must run again."""
        self._mode: Mode = "idle"
        self._deadline = Deadline(0)
        self._staleness: timedelta | None = None
        self._transaction = b""
        self._sequence = 0
        self._ddl: list[str] = []

    def start(self, mode: Mode, deadline: Deadline, staleness: timedelta | None = None) -> None:
        """Enter a transaction; Spanner hears of it with the first statement."""
        self._mode, self._deadline, self._staleness = mode, deadline, staleness
        self._transaction = b""
        self._sequence = 0
        self._ddl = []
        self.lost = None

    def finish(self) -> None:
        """Commit what was done; raises what `lost` says if the transaction is gone."""
        if self.lost is not None:
            raise self.lost
        self.flush()
        if self._mode == "write" and self._transaction:
            self._commit(self._transaction)
        self._mode = "idle"

    def abandon(self) -> None:
        """Let go of what was done; never raises."""
        transaction, self._transaction = self._transaction, b""
        if self._mode == "write" and transaction and not isinstance(self.lost, TransactionLost):
            # Its own short time: the transaction's may be spent, and its locks hold up others. If nobody listens
            # it ends by itself, later.
            with suppress(StoreError):
                self.client.rollback(self.session, transaction, self.client.deadline(2.0))
        self._mode = "idle"

    def execute(self, sql: str, parameters: Sequence[Any]) -> Result:
        """Run one statement in the mode that start() entered."""
        if self.lost is not None:
            raise self.lost
        if self._mode == "idle":
            raise StoreError("outside a transaction")
        if _DDL.match(sql):
            if self._mode != "schema":
                raise StoreError("the schema is changed by migrations only")
            self._ddl.append(sql.strip().rstrip(";"))
            return Result([], [], -1, b"")
        self.flush()
        try:
            return self._run(sql, parameters)
        except StoreUnavailable as exc:
            self.lost = exc
            raise

    def flush(self) -> None:
        """Run the DDL statements that wait."""
        if self._ddl:
            statements, self._ddl = self._ddl, []
            self.client.change_schema(statements, self._deadline)

    def _run(self, sql: str, parameters: Sequence[Any]) -> Result:
        query = _QUERY.match(sql) is not None
        if self._mode == "schema":
            return self._run_alone(sql, parameters, query)
        if self._mode == "read":
            if not query:
                raise StoreError("a read cannot write")
            first = begin_read_only(self._staleness)
        else:
            first = begin_read_write()
        if not self._transaction:
            try:
                result = self._send(first, sql, parameters)
            except StoreUnavailable:
                raise
            except StoreError:
                if self._mode == "read":
                    raise
                # A statement that fails begins nothing. The callback may go on after it, so what it was
                # told must hold inside the transaction: begin one and ask again.
                self._transaction = self.client.begin(self.session, self._deadline)
                return self._send(going_on(self._transaction), sql, parameters)
            self._transaction = result.transaction
            return result
        return self._send(going_on(self._transaction), sql, parameters)

    def _run_alone(self, sql: str, parameters: Sequence[Any], query: bool) -> Result:
        """Run and commit at once: while the schema changes there is no transaction around it."""
        if query:
            return self._send(begin_read_only(None), sql, parameters)
        result = self._send(begin_read_write(), sql, parameters)
        self._commit(result.transaction)
        return result

    def _commit(self, transaction: bytes) -> None:
        """Commit, and ask again while no answer comes.

        Raises CommitUnknown for a refusal after an answer that was lost: that commit may be what it stumbles over.
        """
        unanswered: StoreError | None = None
        attempt = 0
        while True:
            try:
                self.client.commit(self.session, transaction, self._deadline)
                return
            except OutOfTime:
                raise
            except StoreError as exc:
                if worth_repeating(exc) and not isinstance(exc, TransactionLost):
                    unanswered = exc
                elif unanswered is None:
                    raise
                else:
                    raise CommitUnknown(f"{unanswered}; asked again: {exc}") from exc
            self._deadline.pause(attempt)
            attempt += 1

    def _send(self, selector: Any, sql: str, parameters: Sequence[Any]) -> Result:
        self._sequence += 1
        writes = self._mode != "read"
        return self.client.execute(
            self.session, selector, named(sql), parameters, self._deadline, self._sequence, leader=writes
        )

    # What SQLAlchemy and the dialect ask of a connection.

    def cursor(self) -> Cursor:
        """Return a cursor."""
        return Cursor(self)

    def commit(self) -> None:
        """Do nothing: finish() commits."""

    def rollback(self) -> None:
        """Do nothing: abandon() rolls back."""

    def close(self) -> None:
        """Do nothing: the session is given back when the database closes."""

    @property
    def database(self) -> Connection:
        """What the dialect's inspector asks for snapshots."""
        return self

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Lend itself to the inspector."""
        yield self

    def execute_sql(self, sql: str) -> list[list[Any]]:
        """Answer the inspector (which changes rows): INFORMATION_SCHEMA is not for read-write transactions."""
        self.flush()
        deadline = self._deadline if self._mode != "idle" else Deadline(10.0)
        rows = self.client.execute(self.session, begin_read_only(None), sql, (), deadline).rows
        return [list(row) for row in rows]


class Cursor:
    """One statement and its rows."""

    arraysize = 100
    lastrowid = None

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1
        self._rows: Iterator[tuple[Any, ...]] = iter(())

    def execute(self, sql: str, parameters: Sequence[Any] | None = None) -> None:
        """Run a statement and keep its rows."""
        result = self.connection.execute(sql, parameters or ())
        columns = [(name, code, None, None, None, None, None) for name, code in result.columns]
        self.description = columns or None
        self.rowcount = result.changed
        self._rows = iter(result.rows)

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once a row."""
        changed = 0
        for row in rows:
            self.execute(sql, row)
            changed += self.rowcount
        self.rowcount = changed

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row."""
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Return the next rows."""
        return list(islice(self._rows, size or self.arraysize))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows that are left."""
        return list(self._rows)

    def close(self) -> None:
        """Forget the rows."""
        self._rows = iter(())


@lru_cache(maxsize=4096)
def named(sql: str) -> str:
    """Return the text with @p0, @p1 .. in place of each %s."""
    count = iter(range(1 << 30))
    return _PLACE.sub(lambda found: "%" if found[1] == "%" else f"@p{next(count)}", sql)
