"""Restores a backup: checked, prepared beside the present state, and then put in its place."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trunkline_store.errors import StoreError, StoreLocked
from trunkline_store.sqlite.lock import FileLock

from trunkline_cli.backup.erasures import Erased, deleted_tenants, erase_again, erasures_of, read_log
from trunkline_cli.backup.files import copy_file, digest, sync
from trunkline_cli.backup.layout import DATABASES, SERVICES, SPOOL, BackupError, Layout
from trunkline_cli.backup.making import FORMAT, MANIFEST
from trunkline_cli.backup.recordings import gather
from trunkline_cli.backup.swapping import Move, begin, finish
from trunkline_cli.backup.tombstones import bring_up, known_tombstones
from trunkline_cli.screen import reason_of


@dataclass
class Restored:
    """What a restore did."""

    manifest: dict[str, Any]
    deleted: list[str] = field(default_factory=list)
    rows_removed: int = 0
    erased: Erased = field(default_factory=Erased)
    recordings: int = 0
    aside: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


async def restore_backup(
    layout: Layout, source: Path, tell: Callable[[str], None] = lambda _: None
) -> Restored:
    """Put a backup in the place of the present state, which is moved aside. `tell` gets each step.

    Raises BackupError, also while a service has its database open; then everything is as it was.
    """
    restored = Restored(_manifest(source))
    with ExitStack() as stack:
        for file in layout.databases.values():
            _lock(stack, file)
        if layout.plan.exists():
            restored.aside += finish(layout.plan)
            restored.remarks.append("an interrupted restore was finished first")
        try:
            moves = await _prepare(layout, source, restored, tell)
        except BaseException:
            _clear(layout)
            raise
        begin(layout.plan, moves)
        with _timed(restored, "swap"):
            restored.aside += finish(layout.plan)
    return restored


async def _prepare(
    layout: Layout, source: Path, restored: Restored, tell: Callable[[str], None]
) -> list[Move]:
    stamp = f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    _clear(layout)
    for folder in _folders(layout):
        folder.mkdir(mode=0o700, parents=True)
    tombstones, unread = known_tombstones(layout.databases)
    restored.remarks += [f"its deleted tenants could not be read: {text}" for text in unread]
    known = read_log(source.parent)
    known.add(erasures_of(layout.databases))
    for name, at in deleted_tenants(known).items():
        tombstones.setdefault(name, at)
    restored.deleted = sorted(tombstones)

    def move(place: Path, prepared: bool) -> Move:
        aside = place.parent / stamp / place.name
        return Move(str(_beside(place)) if prepared else None, str(place), str(aside))

    tell("copying the databases")
    with _timed(restored, "databases"):
        for name, told in restored.manifest["databases"].items():
            _copy_checked(source / f"{name}.db", _beside(layout.databases[name]), told["sha256"])
        for name, told in restored.manifest.get("spool", {"sha256": {}})["sha256"].items():
            spool = _beside(layout.databases[SPOOL])
            spool.mkdir(mode=0o700, exist_ok=True)
            _copy_checked(source / SPOOL / name, spool / name, told)
    tell("migrating them, and removing deleted tenants")
    with _timed(restored, "deleted_tenants"):
        for name in SERVICES:
            file = _beside(layout.databases[name])
            try:
                restored.rows_removed += await bring_up(name, file, tombstones)
            except StoreError as error:
                raise BackupError(f"{name}.db of the backup cannot be used: {error}") from None
            file.with_name(file.name + ".lock").unlink()
    tell("deleting again what was deleted on request since")
    with _timed(restored, "erasures"):
        prepared = {name: _beside(layout.databases[name]) for name in SERVICES}
        restored.erased = await erase_again(prepared, known)
        for file in prepared.values():
            file.with_name(file.name + ".lock").unlink()
    tell("copying the recordings")
    with _timed(restored, "blobs"):
        gathered = gather(_beside(layout.databases["audio"]), source / "blobs", _beside(layout.blobs))
    if gathered.missing:
        raise BackupError(f"the backup lacks {len(gathered.missing)} recordings that its rows name")
    restored.recordings = gathered.kept
    moves = [move(place, _beside(place).exists()) for place in map(layout.databases.__getitem__, DATABASES)]
    moves += [move(layout.blobs, True), move(layout.source_cache, False)]
    changed = _prepare_secrets(layout, source, restored)
    if layout.seed not in changed:
        moves.append(move(layout.seed, False))
    return moves + [move(place, True) for place in changed]


def _prepare_secrets(layout: Layout, source: Path, restored: Restored) -> list[Path]:
    """Prepare the files of keys that have to change; those that any value does for stay as they are now."""
    changed = []
    for name, place in layout.kept_keys.items():
        if not place.exists() and (source / name).exists():
            copy_file(source / name, _beside(place))
            changed.append(place)
    if (source / "seed.json").exists():
        copy_file(source / "seed.json", _beside(layout.seed))
        changed.append(layout.seed)
    if (source / "secrets.key").exists():
        now = _keys(layout.secret_keys)
        merged = [*now, *(key for key in _keys(source / "secrets.key") if key not in now)]
        if merged != now:
            _beside(layout.secret_keys).write_text(",".join(merged) + "\n")
            changed.append(layout.secret_keys)
    else:
        restored.remarks.append(
            "the backup holds no secrets.key: the tenant service needs the one of its time"
        )
    for place in changed:
        _beside(place).chmod(0o600)
        sync(_beside(place))
    return changed


def _keys(file: Path) -> list[str]:
    """The keys that seal secrets, the newest first."""
    return [key for key in file.read_text().strip().split(",") if key] if file.exists() else []


def _manifest(source: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text())
    except OSError as error:
        raise BackupError(f"{source} is not a complete backup: {reason_of(error)}") from None
    except ValueError as error:
        raise BackupError(f"{source} is not a complete backup: {MANIFEST} is damaged: {error}") from None
    if manifest.get("format") not in (
        1,
        FORMAT,
    ):  # in format 1 the spool is a database; the gateway reports it
        raise BackupError(f"{source} has format {manifest.get('format')}, this is for format {FORMAT}")
    if missing := set(SERVICES) - manifest["databases"].keys():
        raise BackupError(f"{source} lacks {', '.join(sorted(missing))}")
    return manifest


def _lock(stack: ExitStack, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(file)
    except StoreLocked as error:
        raise BackupError(f"stop the suite first: {error}") from None
    stack.callback(lock.release)


def _copy_checked(source: Path, target: Path, sha256: str) -> None:
    if not source.exists():
        raise BackupError(f"{source} is missing")
    copy_file(source, target)
    if digest(target) != sha256:
        raise BackupError(f"{source} has changed: its SHA-256 differs from the manifest's")


def _beside(place: Path) -> Path:
    """Where what is to take a place is prepared: on the same volume."""
    return place.parent / "restoring" / place.name


def _folders(layout: Layout) -> set[Path]:
    keys = (layout.secret_keys, *layout.kept_keys.values())
    places = [*layout.databases.values(), layout.blobs, layout.seed, *keys]
    return {_beside(place).parent for place in places} | {layout.plan.parent}


def _clear(layout: Layout) -> None:
    """Remove what was prepared by a restore that did not come to its plan."""
    for folder in _folders(layout):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _timed(restored: Restored, what: str) -> Iterator[None]:
    since = time.monotonic()
    yield
    restored.seconds[what] = round(time.monotonic() - since, 3)
