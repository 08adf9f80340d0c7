"""What `trunkline up` does while it serves: starts a process again that ended, and keeps the logs on disk bounded."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from trunkline_cli.suite.processes import Suite

FIRST_SECONDS = 1.0
MOST_SECONDS = 30.0
# A process that served for so long has a fault of its own when it ends: the next one waits little again.
SOUND_SECONDS = 60.0

LOG_BYTES = 10_000_000
OLD_LOGS = 3


class Restarts:
    """Starts processes of a suite again, each after a pause that doubles; `step` is to be called often."""

    def __init__(self, suite: Suite, say: Callable[[str], None], now: Callable[[], float] = time.monotonic):
        """`say` gets lines for the screen."""
        self._suite = suite
        self._say = say
        self._now = now
        self._began = dict.fromkeys(suite.running, now())
        self._pause = dict.fromkeys(suite.running, FIRST_SECONDS)
        self._due: dict[str, float] = {}

    def step(self) -> None:
        """Look at every process once."""
        for name, process in list(self._suite.running.items()):
            if name in self._due:
                if self._now() >= self._due[name]:
                    del self._due[name]
                    self._suite.spawn(name)
                    self._began[name] = self._now()
                    self._say(f"{name} was restarted")
            elif (code := process.poll()) is not None:
                self._ended(name, code)

    def _ended(self, name: str, code: int) -> None:
        if self._now() - self._began[name] >= SOUND_SECONDS:
            self._pause[name] = FIRST_SECONDS
        pause = self._pause[name]
        self._pause[name] = min(pause * 2, MOST_SECONDS)
        self._due[name] = self._now() + pause
        how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
        log = self._suite.folder / "log" / f"{name}.log"
        self._say(f"{name} {how}; it restarts in {pause:.0f} s. Its last lines ({log}):")
        self._say(self._suite.log_end(name, 3))


def rotate_logs(folder: Path, most_bytes: int = LOG_BYTES) -> None:
    """Move what is in a log that has grown too large to `<name>.log.1`, and so on; three old ones are kept.

    The processes go on writing to the same file, so that it is copied and emptied; a line between the two may be lost.
    """
    for log in folder.glob("*.log"):
        with contextlib.suppress(OSError):
            if log.stat().st_size > most_bytes:
                _rotate(log)


def _rotate(log: Path) -> None:
    for number in range(OLD_LOGS, 1, -1):
        older = log.with_name(f"{log.name}.{number - 1}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number}"))
    copy = log.with_name(f"{log.name}.1")
    try:
        shutil.copyfile(log, copy)
        copy.chmod(0o600)
    except OSError:  # the disk is full: better an end to the growth than the old lines
        copy.unlink(missing_ok=True)
    os.truncate(log, 0)
