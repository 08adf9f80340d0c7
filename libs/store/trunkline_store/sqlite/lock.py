"""One process a file: an advisory lock on `<file>.lock`, held for as long as the database is open."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from trunkline_store.errors import StoreLocked, StoreUnavailable


class FileLock:
    """Holds `<path>.lock`; the kernel frees it when the process dies, however it dies.

    A child that was forked while it is held shares it: start children by spawn or exec.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise StoreUnavailable(f"cannot open {self._path}: {exc.strerror}") from exc
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise StoreLocked(f"{path} is open in process {holder or 'unknown'}") from None
        with contextlib.suppress(OSError):  # who holds it is told to people only, and a disk may be full
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next one in; the file stays, so that nobody locks a name that is being removed."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)
        self._fd = -1
