"""The bytes of recordings, found by the rows that name them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from trunkline_audio.recordings.rows import blob_key

from trunkline_cli.backup.files import link_or_copy, sync


class Gathered(NamedTuple):
    """What became of the recordings that rows name."""

    kept: int
    size: int  # bytes of those
    missing: list[tuple[str, str]]  # tenant and recording


def gather(database: Path, blobs: Path, target: Path) -> Gathered:
    """Link or copy what the rows of a closed audio database name into another folder."""
    kept = size = 0
    missing = []
    folders = {target}
    target.mkdir()
    for tenant, recording in _named(database):
        key = blob_key(tenant, recording)
        to = target / key
        if to.parent not in folders:
            to.parent.mkdir()
            folders.add(to.parent)
        try:
            link_or_copy(blobs / key, to)
        except FileNotFoundError:
            missing.append((tenant, recording))
            continue
        kept += 1
        size += to.stat().st_size
    for folder in folders:
        sync(folder)
    return Gathered(kept, size, missing)


def forget(database: Path, missing: list[tuple[str, str]]) -> None:
    """Remove rows from a closed copy."""
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.executemany("DELETE FROM recordings WHERE tenant_id = ? AND recording_id = ?", missing)
    sync(database)


def _named(database: Path) -> Iterator[tuple[str, str]]:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro&immutable=1", uri=True)) as conn:
        yield from conn.execute("SELECT tenant_id, recording_id FROM recordings ORDER BY 1, 2")
