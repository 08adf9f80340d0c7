"""What the writer's transaction is made of: callbacks, and batches of rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from trunkline_store.appender import Stored
from trunkline_store.errors import StoreError, StoreUnavailable
from trunkline_store.sqlite.errors import translate
from trunkline_store.sqlite.statements import RowForm
from trunkline_store.sqlite.transaction import GroupLost, Transaction


class WriteCall:
    """One callback and the future that waits for it."""

    __slots__ = ("_error", "_value", "fn", "future")

    def __init__(self, fn: Callable[[Connection], Any], future: asyncio.Future[Any]) -> None:
        self.fn = fn
        self.future = future
        self._value: Any = None
        self._error: BaseException | None = None

    def apply(self, tx: Transaction) -> None:
        """Run inside the open transaction; a failure undoes this callback's work only."""
        # The first in a transaction needs no savepoint: what it would protect is not there yet.
        alone = not tx.active
        if alone:
            tx.begin()
        else:
            tx.execute("SAVEPOINT unit")
        self._error = None
        try:
            self._value = tx.call(self.fn)
        except BaseException as exc:  # whatever it is belongs to the awaiter
            self._error = translate(exc)
        if not tx.active:
            # A full disk or an I/O error may have rolled everything back under us.
            raise GroupLost
        if self._error is None:
            if not alone:
                tx.execute("RELEASE unit")
        elif alone:
            tx.rollback()
        else:
            tx.execute("ROLLBACK TO unit")
            tx.execute("RELEASE unit")

    def apply_alone(self, tx: Transaction) -> None:
        """Run again in a transaction of its own, whose failure is the awaiter's."""
        if isinstance(self._error, Exception) and not isinstance(self._error, StoreUnavailable):
            return  # it had failed by itself, before the group was lost
        try:
            self.apply(tx)
            tx.commit()
        except GroupLost:
            if self._error is None:
                self._error = StoreUnavailable("the transaction was lost")
        except StoreError as exc:
            self._error = exc
        finally:
            tx.rollback()

    def fail(self, error: BaseException) -> None:
        """Set the outcome from outside."""
        self._error = error

    def settle(self) -> None:
        """Tell the awaiter; on the event loop."""
        if self.future.done():
            return
        if self._error is None:
            self.future.set_result(self._value)
        elif isinstance(self._error, StopIteration):  # a future refuses it
            self.future.set_exception(RuntimeError("the callback raised StopIteration"))
        else:
            self.future.set_exception(self._error)


class Entry(NamedTuple):
    """One row on its way: values in the table's order, who waits, and its size in bytes as told."""

    row: tuple[Any, ...]
    future: asyncio.Future[None]
    size: int


class InsertBatch:
    """Rows of one table that are inserted together."""

    __slots__ = ("_errors", "_form", "_numbered", "_released", "_rows_a_statement", "_stored", "entries")

    def __init__(
        self,
        entries: list[Entry],
        form: RowForm,
        rows_a_statement: int,
        released: Callable[[int, int], None],
        stored: Stored | None = None,
    ) -> None:
        self.entries = entries
        self._form = form
        self._rows_a_statement = rows_a_statement
        self._released = released
        self._stored = stored
        self._numbered: list[tuple[int, list[Entry]]] = []  # what was inserted, with the number of the first
        self._errors: dict[int, BaseException] = {}

    @property
    def single(self) -> bool:
        """Whether one statement holds it: then it needs no BEGIN and no COMMIT around it."""
        return len(self.entries) <= self._rows_a_statement

    def apply(self, tx: Transaction) -> None:
        """Insert all; rows that are refused are found one by one and do not harm the others."""
        self._errors.clear()
        self._numbered.clear()
        for start in range(0, len(self.entries), self._rows_a_statement):
            part = self.entries[start : start + self._rows_a_statement]
            try:
                self._insert(tx, part)
            except StoreUnavailable as exc:
                raise GroupLost from exc
            except Exception:  # one row's value; which one is seen row by row
                self._row_by_row(tx, start, part)

    def apply_alone(self, tx: Transaction) -> None:
        """Insert in transactions of its own: together, else row by row until the store itself gives up."""
        try:
            tx.begin()
            self.apply(tx)
            tx.commit()
            return
        except (GroupLost, StoreError):
            tx.rollback()
        self._errors.clear()
        self._numbered.clear()
        given_up: BaseException | None = None
        for index, entry in enumerate(self.entries):
            if given_up is None:
                try:
                    self._insert(tx, [entry])
                    continue
                except Exception as exc:  # belongs to the row's awaiter
                    if isinstance(exc, StoreUnavailable):
                        given_up = exc
                    self._errors[index] = exc
            else:
                self._errors[index] = given_up

    def fail(self, error: BaseException) -> None:
        """Set the outcome of every row from outside."""
        self._errors = dict.fromkeys(range(len(self.entries)), error)
        self._numbered.clear()

    def settle(self) -> None:
        """Tell the awaiters; on the event loop."""
        errors = self._errors
        size = 0
        for index, entry in enumerate(self.entries):
            size += entry.size
            future = entry.future
            if future.done():  # the awaiter was cancelled; its row is kept all the same
                continue
            if errors and index in errors:
                future.set_exception(errors[index])
            else:
                future.set_result(None)
        self._released(len(self.entries), size)
        if self._stored is not None:  # those who await them run later
            for first, entries in self._numbered:
                self._stored(first, [entry.row for entry in entries])

    def _insert(self, tx: Transaction, entries: list[Entry]) -> None:
        form = self._form
        tx.execute(form.sql(len(entries)), form.flatten([entry.row for entry in entries]))
        self._numbered.append((tx.last_number - len(entries) + 1, entries))

    def _row_by_row(self, tx: Transaction, start: int, part: list[Entry]) -> None:
        tx.begin()
        for index, entry in enumerate(part, start):
            try:
                self._insert(tx, [entry])
            except StoreUnavailable as exc:
                raise GroupLost from exc
            except Exception as exc:  # belongs to the row's awaiter
                self._errors[index] = exc
