"""Files that say who is who: read once, and again when they change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from trunkline_runtime.observe import logs

log = logs.get_logger(__name__)

T = TypeVar("T")


class Watched(Generic[T]):
    """What files say together; a change that can't be read leaves the last that could.

    `parse` gets the files' contents in order. `what` names them in log lines: `keys` is told as `keys_read`. The first
    reading raises what `parse` raises, or OSError.
    """

    def __init__(self, paths: tuple[Path, ...], parse: Callable[..., T], what: str) -> None:
        self._paths = paths
        self._parse = parse
        self._what = what
        self._seen = self._marks()
        self._value = self._read()

    def value(self) -> T:
        """Return what the files say now; the same object until one of them changes."""
        try:
            marks = self._marks()
            if marks != self._seen:
                self._seen = marks
                self._value = self._read()
                log.info(f"{self._what}_read", path=self._shown())
        except Exception as error:
            log.error(
                f"{self._what}_unreadable", path=self._shown(), kind=type(error).__name__, error=str(error)
            )
        return self._value

    def _read(self) -> T:
        return self._parse(*(path.read_bytes() for path in self._paths))

    def _marks(self) -> tuple[tuple[int, ...], ...]:
        stats = [path.stat() for path in self._paths]
        # The change time too: a file that becomes readable, or is copied with its times, has no later mtime.
        return tuple((s.st_ino, s.st_mtime_ns, s.st_ctime_ns, s.st_size) for s in stats)

    def _shown(self) -> str:
        return str(self._paths[0] if len(self._paths) == 1 else self._paths[0].parent)
