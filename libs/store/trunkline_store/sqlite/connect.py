"""SQLite connections as the store wants them, and SQLAlchemy over a connection that somebody else governs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from trunkline_store.callbacks import translate_errors
from trunkline_store.errors import StoreUnsupported
from trunkline_store.sqlite.errors import translate

# Bodies of 2.5 KB fill a 4096-byte page each; fewer, larger pages keep the checkpoints cheap.
PAGE_SIZE = 8192
# What is left of the WAL file after a reset; it is written over from its start, not allocated again.
WAL_KEPT_BYTES = 64 << 20
PAGE_BYTES = 32 << 20
"""Of pages that the connection that writes keeps, unless it is told otherwise."""
_READERS_SHARE = 4
"""A reader keeps one part of the pages that the writer keeps in so many."""
_OLDEST = (3, 35, 0)  # RETURNING


def make_private(path: Path) -> None:
    """Make a database its owner's alone, also one that an earlier release made: its log takes over its mode.

    Raises OSError when there is none and none can be made.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for suffix in ("", "-wal", "-shm", ".lock"):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # not ours: whose it is has decided
            os.chmod(f"{path}{suffix}", 0o600)


def connect_writer(
    path: Path, kind: type[sqlite3.Connection] = sqlite3.Connection, *, page_bytes: int = PAGE_BYTES
) -> sqlite3.Connection:
    """Open the connection that writes: WAL, every commit fsynced, checkpoints left to their own thread."""
    if sqlite3.sqlite_version_info < _OLDEST:
        raise StoreUnsupported(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 is needed")
    raw = _connect(f"{path.absolute().as_uri()}?mode=rwc", kind)
    _keep_temporary_beside(raw, path)
    raw.execute(f"PRAGMA page_size={PAGE_SIZE}")
    mode = raw.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise StoreUnsupported(f"{path}: this file system gives no WAL (journal mode {mode})")
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("PRAGMA wal_autocheckpoint=0")
    raw.execute(f"PRAGMA journal_size_limit={WAL_KEPT_BYTES}")
    raw.execute("PRAGMA foreign_keys=ON")
    raw.execute(f"PRAGMA cache_size={-page_bytes // 1024}")
    return raw


def _keep_temporary_beside(raw: sqlite3.Connection, path: Path) -> None:
    """Have SQLite put temporary files beside the process's first database, where there is room and they are private.

    They are as large as what is sorted or moved, and /tmp may be small, or memory. The setting is one for the process.
    """
    found = raw.execute("PRAGMA temp_store_directory").fetchone()
    if not found or not found[0]:
        folder = str(path.absolute().parent).replace("'", "''")
        raw.execute(f"PRAGMA temp_store_directory='{folder}'")


def connect_checkpointer(path: Path) -> sqlite3.Connection:
    """Open the connection that copies the WAL back into the file."""
    raw = _connect(f"{path.absolute().as_uri()}?mode=rw")
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("PRAGMA wal_autocheckpoint=0")
    return raw


def connect_reader(path: Path, *, page_bytes: int = PAGE_BYTES) -> sqlite3.Connection:
    """Open a connection that cannot write."""
    raw = _connect(f"{path.absolute().as_uri()}?mode=ro")
    raw.execute("PRAGMA query_only=ON")
    raw.execute(f"PRAGMA cache_size={-page_bytes // _READERS_SHARE // 1024}")
    return raw


def connect_observer(path: Path) -> sqlite3.Connection:
    """Open a connection to look at a file whose process may run or not; no file is made beside it."""
    still = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    return _connect(f"{path.absolute().as_uri()}?mode=ro{still}")


def _connect(uri: str, kind: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    return sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,  # the module begins nothing by itself; whoever holds the connection does
        check_same_thread=False,
        timeout=5.0,
        cached_statements=256,
        factory=kind,
    )


def engine_over(creator: Callable[[], sqlite3.Connection]) -> Engine:
    """Return an engine that translates errors where they rise, also inside callbacks.

    Its connections begin nothing (isolation_level=None) and their pool resets nothing.
    """
    engine = sa.create_engine(
        "sqlite+pysqlite://", creator=creator, poolclass=NullPool, pool_reset_on_return=None
    )
    translate_errors(engine, translate)
    return engine
