"""The thread that moves the write-ahead log back into the file, beside the writer and not in its way.

PASSIVE alone never resets the log while commits keep coming, and it would grow without end. Past a limit the
thread copies twice more, so that little is left to do, then asks the writer for a RESTART between two turns
and waits for it: a RESTART while a PASSIVE still runs would hold the writer for its whole busy timeout. So would one
while somebody reads an old snapshot for long, as a backup does: then it is left until copying comes on again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trunkline_store.sqlite.connect import PAGE_SIZE, connect_checkpointer

INTERVAL_SECONDS = 0.1
# Copying costs two fsyncs however little there is to copy: fewer commits than these wait for others, for so long.
FEW_COMMITS = 16
FEW_SECONDS = 1.0
RESET_BYTES = 64 << 20
_FRAME_BYTES = PAGE_SIZE + 24
# How long a RESTART may hold the writer while readers leave the log; it comes again if that was too short.
_RESTART_WAIT_MS = 100


class Checkpointer:
    """Watches the writer's count of commits, asked once a look; a log of `reset_bytes` is reset."""

    def __init__(
        self,
        path: Path,
        writer_raw: sqlite3.Connection,
        commits: Callable[[], int],
        between_turns: Callable[[Callable[[], None]], None],
        reset_bytes: int = RESET_BYTES,
    ) -> None:
        self._path = path
        self._writer_raw = writer_raw
        self._commits = commits
        self._between_turns = between_turns
        self._reset_bytes = reset_bytes
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-checkpoint", daemon=True)
        self.wal_bytes = 0
        self.restarts = 0
        self.pinned = False
        """Whether the log cannot be reset, since somebody still reads what was before it."""
        self._copied = 0
        self.idle_at = -1
        """The count of commits up to which all is in the file."""
        self._begun = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; blocks until then. Before the writer stops, since it may wait for it."""
        self._stopping.set()
        self._thread.join()

    def is_due(self, commits: int, now: float) -> bool:
        """Say whether what was committed is to be copied now; `now` is in the seconds of time.monotonic."""
        new = commits - self.idle_at
        return new >= FEW_COMMITS or (new > 0 and now - self._begun >= FEW_SECONDS)

    def _run(self) -> None:
        raw = connect_checkpointer(self._path)
        try:
            while not self._stopping.wait(INTERVAL_SECONDS):
                commits = self._commits()
                if self.is_due(commits, now := time.monotonic()):
                    self._begun = now
                    if self._passive(raw):
                        self.idle_at = commits
                if self.wal_bytes > self._reset_bytes:
                    before = self._copied
                    self._passive(raw)
                    self.pinned = not self._passive(raw) and self._copied <= before
                    if not self.pinned:
                        self._restart()
        finally:
            raw.close()

    def _passive(self, raw: sqlite3.Connection) -> bool:
        """Copy what can be copied; True when nothing was left."""
        try:
            _, frames, copied = raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            return False  # a full disk or the like: the writer meets it too, and tells it
        self.wal_bytes = max(0, frames) * _FRAME_BYTES
        self._copied = max(0, copied)
        return bool(frames == copied)

    def _restart(self) -> None:
        done = threading.Event()

        def restart() -> None:
            try:
                raw = self._writer_raw
                before = raw.execute("PRAGMA busy_timeout").fetchone()[0]
                raw.execute(f"PRAGMA busy_timeout={_RESTART_WAIT_MS}")
                try:
                    busy, _, _ = raw.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
                finally:
                    raw.execute(f"PRAGMA busy_timeout={before}")
                if not busy:
                    self.restarts += 1
                    self.wal_bytes = 0
            except sqlite3.Error:
                pass  # it comes again
            finally:
                done.set()

        self._between_turns(restart)
        while not done.wait(INTERVAL_SECONDS) and not self._stopping.is_set():
            pass
