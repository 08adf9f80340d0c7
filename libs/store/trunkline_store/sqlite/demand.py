"""How much of a processor two threads ask for: what they use, and how long they wait for it beside other work."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable


def demand_of(*threads: int) -> Callable[[], float]:
    """Return what tells the seconds that these threads (native ids) used a processor or waited for one.

    Where the system says nothing of that, it is the time that the whole process used.
    """
    files: list[int] = []
    try:
        for thread in threads:
            files.append(os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC))
        _read(files)
    except (OSError, ValueError):
        _close(files)
        return time.process_time
    return _Demand(files)


class _Demand:
    """Reads the files, which are open as long as it lives."""

    def __init__(self, files: list[int]) -> None:
        self._files = files

    def __call__(self) -> float:
        return _read(self._files)

    def __del__(self) -> None:
        _close(self._files)


def _read(files: list[int]) -> float:
    nanoseconds = 0
    for file in files:
        used, waited, *_ = os.pread(file, 100, 0).split()
        nanoseconds += int(used) + int(waited)
    return nanoseconds / 1e9


def _close(files: list[int]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            os.close(file)
