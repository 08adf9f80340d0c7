"""Rescue: sets a damaged spool file aside and reads out of it every row whose checksum is right."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable
from trunkline_store.sqlite.connect import PAGE_SIZE

from trunkline_gateway.intake.spool_rows import SELECT, Spooled, opened, spooled

_BATCH = 100
_PROBED = 256
# Keys tried one by one without finding any before the rest is given up, where the file does not say its last one.
_GIVE_UP_AFTER = 20_000
_WAL_FORMAT = b"\x02\x02"
_UNFINISHED = "rescuing"


def set_aside(path: Path, now: datetime) -> Path:
    """Rename the file, with its log, so that a new one can take its place; return the new name.

    The name says that it is still to be read, also after a crash: see `unfinished` and `finished`.
    """
    stamp = f"{now:%Y%m%dT%H%M%S%fZ}"
    aside = path.with_name(f"{path.name}.{_UNFINISHED}-{stamp}")
    for suffix in ("-wal", ""):
        if Path(f"{path}{suffix}").exists():
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    Path(f"{path}-shm").unlink(missing_ok=True)  # an index of the log, made anew by whoever reads it
    return aside


def unfinished(path: Path) -> list[Path]:
    """Return the files that were set aside and not read to their end, the oldest first."""
    names = path.parent.glob(f"{path.name}.{_UNFINISHED}-*")
    return sorted(name for name in names if not name.name.endswith(("-wal", "-shm", "-page1")))


def finished(aside: Path) -> Path:
    """Rename a file that was read to its end; return its last name, which nothing here touches again."""
    done = aside.with_name(aside.name.replace(f".{_UNFINISHED}-", ".damaged-"))
    for suffix in ("-wal", "-page1", ""):
        if Path(f"{aside}{suffix}").exists():
            os.replace(f"{aside}{suffix}", f"{done}{suffix}")
    Path(f"{aside}-shm").unlink(missing_ok=True)
    return done


class Wreck:
    """A damaged file. `rows` gives the good rows in batches; `lost` counts those that were seen to be damaged."""

    def __init__(self, path: Path):
        """Nothing is read yet."""
        self._path = path
        self.lost = 0

    def rows(self) -> Iterator[list[Spooled]]:
        """Give every good row that can be reached."""
        try:
            with closing(self._connect()) as conn:
                conn.execute(SELECT + "LIMIT 1").fetchall()
        except sqlite3.Error:
            # The first page is gone, and with it SQLite's knowledge of what this is: every spool begins alike.
            self._mend_first_page()
        with closing(self._connect()) as conn, suppress(sqlite3.DatabaseError):
            yield from self._read(conn)

    def _connect(self) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        conn = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        conn.execute("PRAGMA wal_autocheckpoint=0")
        return conn

    def _read(self, conn: sqlite3.Connection) -> Iterator[list[Spooled]]:
        try:
            last: int | None = conn.execute("SELECT max(seq) FROM receipts").fetchone()[0] or 0
        except sqlite3.DatabaseError:
            last = None
        after = found_at = 0
        while last is None or after < last:
            try:
                raw = conn.execute(SELECT + "WHERE seq > ? ORDER BY seq LIMIT ?", (after, _BATCH)).fetchall()
                if not raw:
                    return
                after = raw[-1][0]
            except sqlite3.DatabaseError:  # a broken page: around it, row by row
                raw = self._probe(conn, range(after + 1, after + 1 + _PROBED))
                after += _PROBED
            good = [row for row in map(opened, raw) if row is not None]
            self.lost += len(raw) - len(good)
            if good:
                found_at = after
                yield good
            elif last is None and after - found_at > _GIVE_UP_AFTER:
                return

    def _probe(self, conn: sqlite3.Connection, keys: range) -> list[tuple[object, ...]]:
        found = []
        for seq in keys:
            try:
                found += conn.execute(SELECT + "WHERE seq = ?", (seq,)).fetchall()
            except sqlite3.DatabaseError:
                self.lost += 1
        return found

    def _mend_first_page(self) -> None:
        size = self._path.stat().st_size if self._path.exists() else 0
        with self._path.open("r+b" if size else "w+b") as file:
            Path(f"{self._path}-page1").write_bytes(file.read(PAGE_SIZE))
            page = bytearray(_first_page())
            page[28:32] = max(1, size // PAGE_SIZE).to_bytes(4, "big")
            file.seek(0)
            file.write(page)


def _first_page() -> bytes:
    """Return the first page of a new spool: the header, and where the one table begins."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.db"
        with closing(sqlite3.connect(path)) as conn:
            conn.execute(f"PRAGMA page_size={PAGE_SIZE}")
            conn.execute(str(CreateTable(spooled).compile(dialect=sqlite.dialect())))
            conn.commit()
        page = path.read_bytes()[:PAGE_SIZE]
    return page[:18] + _WAL_FORMAT + page[20:]
