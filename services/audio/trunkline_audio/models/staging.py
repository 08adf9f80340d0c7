"""Where a model is put together before it takes its place, by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_PREFIX = ".fetching-"


@contextmanager
def staging(folder: Path, waits: Callable[[], None]) -> Iterator[Path]:
    """An empty folder inside `folder`, which is made if need be; gone afterwards, whatever happens.

    Only one process has one at a time. `waits` is called once if another has it now. The kernel frees the
    lock of a process that is killed, and the next one removes what that left. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        with TemporaryDirectory(prefix=_PREFIX, dir=folder, ignore_cleanup_errors=True) as name:
            yield Path(name)


def settle(made: Path, target: Path) -> None:
    """Move a folder that was made in a staging folder to its place, at once and durably. Raises OSError.

    What lay there is moved into the staging folder, which takes it along when it goes.
    """
    for path in made.iterdir():
        _sync(path)
    _sync(made)
    if os.path.lexists(target):
        target.rename(made.with_name("replaced"))
    made.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
