"""Puts prepared files in the place of others, which are moved aside; whatever interrupts it, it can be finished.

A plan on the disk says what belongs where. Each of its steps either was done, which shows, or is done again.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from trunkline_cli.backup.files import sync, write_json

_DATABASE_FILES = ("-wal", "-shm", "")  # the file itself last: it says whether the others were seen to


@dataclass(frozen=True)
class Move:
    """One file or folder: what takes the place (nothing, when None), where, and where the old one goes."""

    prepared: str | None
    place: str
    aside: str


def begin(plan: Path, moves: list[Move]) -> None:
    """Write the plan; from now on it is finished rather than given up."""
    write_json(plan, {"moves": [asdict(move) for move in moves]})


def finish(plan: Path) -> list[Path]:
    """Do what is left of a plan; return where old files were put."""
    aside = []
    folders = set()
    for raw in json.loads(plan.read_text())["moves"]:
        move = Move(**raw)
        folders |= {Path(move.place).parent}
        if move.prepared is not None and not Path(move.prepared).exists():
            continue  # it took its place before something came between
        for suffix in _DATABASE_FILES:
            if Path(move.place + suffix).exists():
                Path(move.aside).parent.mkdir(mode=0o700, exist_ok=True)
                os.replace(move.place + suffix, move.aside + suffix)
                aside.append(Path(move.aside + suffix))
                folders.add(Path(move.aside).parent)
        if move.prepared is not None:
            folders.add(Path(move.prepared).parent)
            os.replace(move.prepared, move.place)
    for folder in folders:
        sync(folder)
    plan.unlink()
    for folder in {*folders, plan.parent}:
        if folder.name == plan.parent.name:
            shutil.rmtree(folder, ignore_errors=True)
    return aside
