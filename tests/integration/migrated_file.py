"""SQLite files that are migrated already: a service's revisions run once a session, and each test gets a copy."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from trunkline_store import Database

_FILES: dict[str, bytes] = {}


async def migrated_file(path: Path, metadata: sa.MetaData, migrations: str) -> str:
    """Write an empty file at the head of a package's revisions, unless one is there; its URL.

    Opening it looks for its revision as always, and finds nothing left to do.
    """
    url = f"sqlite:///{path}"
    if path.exists():
        return url
    if migrations not in _FILES:
        async with await Database.open(url, metadata, migrations=migrations):
            pass
        # Closed, it has no journal beside it: all of it is in this one file.
        assert [other for other in path.parent.glob(f"{path.name}-*") if other.stat().st_size] == []
        _FILES[migrations] = path.read_bytes()
    path.touch(0o600)
    path.write_bytes(_FILES[migrations])
    return url
