"""The SQLite engine."""

from trunkline_store.sqlite.engine import SqliteDatabase

__all__ = ["SqliteDatabase"]
