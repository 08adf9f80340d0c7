"""How much room is left where a process keeps its files: looked up when somebody asks for the metrics."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from trunkline_runtime.observe.metrics import gauge

FREE = gauge(
    "trunkline_disk_free_bytes", "Bytes that are free on the disk of what the process keeps there.", ["keeps"]
)
SIZE = gauge("trunkline_disk_size_bytes", "Bytes of that disk.", ["keeps"])


def show(keeps: str, path: Path) -> None:
    """Show the disk of a file or folder, which may not exist yet. `keeps` says what is there, such as `store`."""
    FREE.labels(keeps).set_function(_asked(path, lambda usage: usage.free))
    SIZE.labels(keeps).set_function(_asked(path, lambda usage: usage.total))


def show_store(url: str) -> None:
    """Show the disk of a store that is a file on this machine; another one has none here."""
    if url.startswith("sqlite:///"):
        show("store", Path(url.removeprefix("sqlite:///").partition("?")[0]))


def _asked(path: Path, figure: Callable[[shutil._ntuple_diskusage], int]) -> Callable[[], float]:
    def ask() -> float:
        for place in (path, *path.absolute().parents):
            try:
                return float(figure(shutil.disk_usage(place)))
            except FileNotFoundError:
                continue
            except OSError:
                break
        return float("nan")

    return ask
