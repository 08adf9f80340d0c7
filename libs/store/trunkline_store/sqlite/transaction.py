"""The writer's connection, seen as one transaction at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.engine import Connection

from trunkline_store.callbacks import forbid_transaction_control
from trunkline_store.sqlite.connect import engine_over
from trunkline_store.sqlite.errors import translate

T = TypeVar("T")


class GroupLost(Exception):
    """The transaction is gone, and with it everybody's work in it: do it again, one by one."""


class Transaction:
    """Begins when first needed; raw for hot statements and SQLAlchemy Core for callbacks share it."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self._cursor = raw.cursor()
        self._inside = False
        self._engine = engine_over(lambda: raw)
        forbid_transaction_control(self._engine, lambda: self._inside)
        self._core = self._engine.connect()

    @property
    def active(self) -> bool:
        """Whether a transaction is open."""
        return self.raw.in_transaction

    def execute(self, sql: str, parameters: list[object] | tuple[object, ...] = ()) -> None:
        """Run one driver-level statement; outside a transaction it commits itself."""
        try:
            self._cursor.execute(sql, parameters)
        except (sqlite3.Error, UnicodeEncodeError, OverflowError, MemoryError) as exc:
            raise translate(exc) from exc

    @property
    def last_number(self) -> int:
        """The number of the row that was inserted last; those of one statement follow each other."""
        return self._cursor.lastrowid or 0

    def begin(self) -> None:
        """Open a transaction that may write at once, if none is open."""
        if not self.raw.in_transaction:
            self.execute("BEGIN IMMEDIATE")

    def call(self, fn: Callable[[Connection], T]) -> T:
        """Run a callback inside the open transaction."""
        if self._core.closed:  # the callback before closed what it was lent
            self._core = self._engine.connect()
        if not self._core.in_transaction():
            # Begins nothing in the file; but a Connection that is in no transaction answers a refused value
            # with a rollback of its own, which would be everybody's. It stays so: to begin and end it with each
            # commit takes as long as a statement.
            self._core.begin()
        self._inside = True
        try:
            return fn(self._core)
        finally:
            self._inside = False

    def commit(self) -> None:
        """Make it durable; on an error nothing is kept and the error is the store's."""
        try:
            if self.raw.in_transaction:
                self.raw.commit()
        except sqlite3.Error as exc:
            raise translate(exc) from exc

    def rollback(self) -> None:
        """Undo everything since begin."""
        try:
            if not self._core.closed:
                self._core.rollback()
        finally:
            if self.raw.in_transaction:
                self.raw.rollback()

    def close(self) -> None:
        """Close both faces of the connection."""
        if not self._core.closed:
            self._core.close()
        self._engine.dispose()
        self.raw.close()
