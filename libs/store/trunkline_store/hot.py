"""Hot statements: those that run for every call, without what SQLAlchemy costs each time on SQLite.

Executing a compiled statement through SQLAlchemy takes 60 to 150 microseconds of Python, SQLite's own part 5 to
20. A hot statement is compiled once for each shape of its parameters; then its text, binds and results go
straight through the driver, by the same types. On another engine, and where somebody listens to statements (a
test that inspects each), it is executed as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from trunkline_store.engines import statements_of

Row = dict[str, Any]
_Process = Callable[[Any], Any] | None
_SHAPES_KEPT = 256


class Hot:
    """One statement: a select, or an insert, update or delete without RETURNING.

    Make it once, at a module's or an object's start. A statement that inserts or updates without stating its
    values sets the columns that the parameters name, and no defaults. Raises the store's errors, as
    `conn.execute` does.
    """

    def __init__(self, statement: sa.Select[Any] | sa.Insert | sa.Update | sa.Delete) -> None:
        self._statement = statement
        self._reads = isinstance(statement, sa.Select)
        self._forms: dict[tuple[object, ...], _StatementForm] = {}
        # Without lists: their names are all of the shape.
        self._plain: dict[tuple[str, ...], _StatementForm] = {}

    def all(self, conn: Connection, parameters: Mapping[str, Any]) -> list[Row]:
        """Return the rows of a select, as dicts by the columns' names."""
        form = self._form(conn, parameters)
        if form is None:
            return [dict(row) for row in conn.execute(self._statement, parameters).mappings()]
        return list(map(form.row, form.run(conn, parameters, _all)))

    def first(self, conn: Connection, parameters: Mapping[str, Any]) -> Row | None:
        """Return the first row of a select, None when there is none."""
        form = self._form(conn, parameters)
        if form is None:
            row = conn.execute(self._statement, parameters).mappings().first()
            return None if row is None else dict(row)
        values = form.run(conn, parameters, _first)
        return None if values is None else form.row(values)

    def run(self, conn: Connection, parameters: Mapping[str, Any]) -> int:
        """Run a statement that writes; how many rows it matched."""
        form = self._form(conn, parameters)
        if form is None:
            return conn.execute(self._statement, parameters).rowcount
        matched: int = form.run(conn, parameters, _rowcount)
        return matched

    def _form(self, conn: Connection, parameters: Mapping[str, Any]) -> _StatementForm | None:
        """Return how the driver runs it with parameters of this shape; None where SQLAlchemy is to run it."""
        if not statements_of(conn.dialect).past_sqlalchemy(conn):
            return None
        names = tuple(parameters)
        if (plain := self._plain.get(names)) is not None:
            return plain
        shape = tuple(
            (name, len(value)) if isinstance(value, (list, tuple)) else name
            for name, value in parameters.items()
        )
        form = self._forms.get(shape)
        if form is None:
            if len(self._forms) >= _SHAPES_KEPT:
                self._forms.clear()
                self._plain.clear()
            form = self._forms[shape] = _compile(self._statement, conn.dialect, parameters, self._reads)
            if all(member is None for _, member, _ in form.places) and shape == names:
                self._plain[names] = form
        return form


@dataclass(frozen=True, slots=True)
class _StatementForm:
    """A statement as the driver takes it."""

    text: str
    places: tuple[tuple[str, int | None, _Process], ...]
    """Where each bind comes from: the parameter, its member when it is a list, and what the type does to it."""
    constants: Mapping[str, Any]
    """Binds that stand in the statement itself."""
    columns: tuple[str, ...]
    processes: tuple[tuple[str, Callable[[Any], Any]], ...]
    """What the types do to the columns that they do anything to."""

    def run(self, conn: Connection, parameters: Mapping[str, Any], take: Callable[[Any], Any]) -> Any:
        values = {**self.constants, **parameters} if self.constants else parameters
        binds = []
        for name, member, process in self.places:
            value = values[name] if member is None else values[name][member]
            binds.append(value if process is None else process(value))
        return statements_of(conn.dialect).drive(conn, self.text, binds, take)

    def row(self, values: Sequence[Any]) -> Row:
        row = dict(zip(self.columns, values, strict=True))
        for name, process in self.processes:
            row[name] = process(row[name])
        return row


def _compile(statement: Any, dialect: Dialect, parameters: Mapping[str, Any], reads: bool) -> _StatementForm:
    compiled = statement.compile(dialect=dialect, column_keys=None if reads else list(parameters))
    state = compiled.construct_expanded_state(dict(parameters))
    members = {
        expanded: (name, place)
        for name, list_of in state.parameter_expansion.items()
        for place, expanded in enumerate(list_of)
    }
    named = [members.get(bind, (bind, None)) for bind in state.positiontup or ()]
    places = tuple((name, member, _bind(compiled.binds[name].type, dialect)) for name, member in named)
    constants = {name: compiled.binds[name].effective_value for name, _ in named if name not in parameters}
    selected = [(str(column.key), column.type) for column in _selected(statement, reads)]
    processes = tuple((name, process) for name, kind in selected if (process := _result(kind, dialect)))
    return _StatementForm(state.statement, places, constants, tuple(name for name, _ in selected), processes)


def _selected(statement: Any, reads: bool) -> Sequence[sa.ColumnElement[Any]]:
    return list(statement.selected_columns) if reads else ()


def _bind(kind: sa.types.TypeEngine[Any], dialect: Dialect) -> _Process:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _result(kind: sa.types.TypeEngine[Any], dialect: Dialect) -> _Process:
    return kind.dialect_impl(dialect).result_processor(dialect, None)


def _all(cursor: Any) -> Any:
    return cursor.fetchall()


def _first(cursor: Any) -> Any:
    return cursor.fetchone()


def _rowcount(cursor: Any) -> Any:
    return cursor.rowcount
