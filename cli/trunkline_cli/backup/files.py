"""Single files: copied whole, durable, for their owner's eyes only; databases copied while they are written to."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from trunkline_cli.backup.layout import BackupError

_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES}
_WAIT_SECONDS = 30.0


def connect(path: Path) -> sqlite3.Connection:
    """Open a database that a service may be writing to, for looking only.

    Not `mode=ro`: after a kill the log has to be read back, which that forbids.
    """
    uri = f"{path.absolute().as_uri()}?mode=rw"
    conn = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_WAIT_SECONDS)
    conn.execute("PRAGMA wal_autocheckpoint=0")
    conn.execute("PRAGMA query_only=ON")
    return conn


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment, log included, into one file. Raises BackupError for a damaged one.

    In one step, that is in one read transaction: writers go on meanwhile, and cannot make it begin again.
    """
    try:
        with (
            closing(connect(source)) as live,
            closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            copy.execute("PRAGMA synchronous=OFF")  # what counts is the one fsync at the end
            live.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode=DELETE")
            found = [row[0] for row in copy.execute("PRAGMA quick_check(3)")]
    except sqlite3.Error as error:
        raise BackupError(f"{source} cannot be copied: {error}") from None
    if found != ["ok"]:
        raise BackupError(f"{source} is damaged: {'; '.join(found)}")
    sync(target)


def described(path: Path) -> dict[str, Any]:
    """Return a copied database's size, digest, revision and rows in each table."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as conn:
        named = conn.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        tables = sorted(row[0] for row in named)
        rows = {name: conn.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
        revision = None
        if rows.pop("alembic_version", 0):
            revision = conn.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    return {"bytes": path.stat().st_size, "sha256": digest(path), "revision": revision, "rows": rows}


def digest(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, durable when it returns."""
    shutil.copyfile(source, target)
    sync(target)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that nobody ever writes to again a second name; copy it where that is impossible.

    Raises FileNotFoundError.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        copy_file(source, target)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file whole or not at all, durable when it returns."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    sync(part)
    part.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
