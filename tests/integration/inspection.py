"""Looks at every statement that is issued: whose rows it is about, and whether its callback may run again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN)(?:@\{[^}]*\})? `?(\w+)`?")
_NOT_DATA = ("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "PRAGMA", "SELECT 1", "SELECT CURRENT_TIMESTAMP")


def lacks_tenant(statement: str) -> bool:
    """Tell whether a statement about one table touches rows without saying which tenant's."""
    text = " ".join(statement.split())
    if text.startswith(_NOT_DATA):
        return False
    if text.startswith("INSERT"):
        return "tenant_id" not in re.split(r" VALUES | SELECT ", text)[0]
    tables = set(_TABLE.findall(text))
    where = text.partition(" WHERE ")[2]
    return len(tables) != 1 or not re.search(r"\btenant_id (?:=|IN)", where)


@contextmanager
def statements() -> Iterator[list[str]]:
    """Give a list that every statement is added to."""
    seen: list[str] = []

    def listen(conn, cursor, statement, parameters, context, executemany):
        seen.append(statement)

    sa.event.listen(Engine, "before_cursor_execute", listen)
    try:
        yield seen
    finally:
        sa.event.remove(Engine, "before_cursor_execute", listen)


class Again(Exception):
    """Undoes what a callback did."""


class RunAgain:
    """A database whose every write callback is run, undone, and run again, as an engine does after an abort."""

    def __init__(self, db):
        self._db = db
        self.clock, self.engine, self.features, self.pressure = db.clock, db.engine, db.features, db.pressure
        self.undone = 0

    async def read(self, fn: Callable[[Any], Any], *, staleness: timedelta | None = None) -> Any:
        """As the database does."""
        return await self._db.read(fn, staleness=staleness)

    async def write(self, fn: Callable[[Any], Any], *, background: bool = False) -> Any:
        """Twice, the first time for nothing."""

        def undone(conn):
            fn(conn)
            raise Again

        try:
            await self._db.write(undone, background=background)
        except Again:
            self.undone += 1
        return await self._db.write(fn, background=background)
