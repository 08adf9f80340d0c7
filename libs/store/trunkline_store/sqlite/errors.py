"""SQLite's errors as the store's."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa

from trunkline_store.errors import (
    Conflict,
    InvalidValue,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
)

_UNIQUE = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_ROWID,
}
_UNAVAILABLE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_PERM,
}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_VALUE = {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE}


def translate(exc: BaseException) -> BaseException:
    """Return the store's error for one of the driver's or SQLAlchemy's; anything else comes back as it is."""
    if isinstance(exc, sa.exc.StatementError) and exc.orig is not None:
        return translate(exc.orig)
    if isinstance(exc, sqlite3.Error):
        return _of_sqlite(exc)
    if isinstance(exc, UnicodeEncodeError):
        return InvalidValue("text must not contain lone surrogates")
    if isinstance(exc, OverflowError):
        return InvalidValue("an integer does not fit 64 bits")
    if isinstance(exc, MemoryError):
        return StoreUnavailable("out of memory")
    return exc


def _of_sqlite(exc: sqlite3.Error) -> StoreError:
    code = getattr(exc, "sqlite_errorcode", None)
    if code is None:
        # The module's own complaints carry no code: a value it cannot bind, or a call out of order.
        told = str(exc)
        if "binding parameter" in told or isinstance(exc, sqlite3.DataError):
            return InvalidValue(told)
        return StoreError(told)
    told = f"{exc} ({exc.sqlite_errorname})"
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return Conflict(told) if code in _UNIQUE else InvalidValue(told)
    if primary in _UNAVAILABLE:
        return StoreUnavailable(told)
    if primary in _DAMAGED:
        return StoreDamaged(told)
    if primary in _VALUE:
        return InvalidValue(told)
    return StoreError(told)
