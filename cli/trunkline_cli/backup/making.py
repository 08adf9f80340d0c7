"""Makes a backup: the databases in an order in which nothing acknowledged can be missed, then what they name."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trunkline_gateway.intake.spool_log import frames

from trunkline_cli.backup.erasures import erasures_of, write_log
from trunkline_cli.backup.files import copy_database, copy_file, described, digest, sync, write_json
from trunkline_cli.backup.layout import DATABASES, SERVICES, SPOOL, BackupError, Layout
from trunkline_cli.backup.recordings import forget, gather

FORMAT = 2
MANIFEST = "manifest.json"
_SPARE_BYTES = 64 << 20
# The names that `trunkline backup` gives by itself: nothing else in the folder is ours to remove.
_UNFINISHED = "[0-9]" * 8 + "T" + "[0-9]" * 6 + "Z.part"


def make_backup(layout: Layout, target: Path, tell: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Copy the state into a folder that is not there yet; return its manifest. Raises BackupError.

    `tell` gets each step before it begins.

    The folder appears under its name when all is in it and on the disk.
    """
    if target.exists():
        raise BackupError(f"{target} exists already")
    if missing := [str(layout.databases[name]) for name in SERVICES if not layout.databases[name].exists()]:
        raise BackupError(f"nothing to copy: {', '.join(missing)} missing")
    if layout.plan.exists():
        raise BackupError("a restore was interrupted; finish it first with trunkline restore")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for left in (part, *target.parent.glob(_UNFINISHED)):
        _remove_unfinished(left)
    part.mkdir(mode=0o700)
    with _held(part):
        try:
            _check_space(layout, part)
            manifest = _fill(layout, part, tell)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        # Before the backup appears: whoever has it has what was deleted by then.
        write_log(target.parent, erasures_of({name: part / f"{name}.db" for name in SERVICES}))
        part.rename(target)
    sync(target.parent)
    return manifest


def _remove_unfinished(part: Path) -> None:
    """Remove what a backup left that was killed. One that is being made stays, as its process holds it."""
    with suppress(FileNotFoundError, BlockingIOError), _held(part):
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder while the block lasts. Raises BlockingIOError while another process does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _fill(layout: Layout, part: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    began = datetime.now(UTC)
    seconds: dict[str, float] = {}
    copied: dict[str, Path] = {}
    spool: dict[str, Any] = {}
    for name in DATABASES:
        source, since = layout.databases[name], time.monotonic()
        tell(f"copying {name}")
        if name == SPOOL:
            spool = _copy_spool(source, part / name)
        else:
            copied[name] = part / f"{name}.db"
            copy_database(source, copied[name])
        seconds[name] = round(time.monotonic() - since, 3)
    since = time.monotonic()
    tell("copying the recordings")
    recordings = gather(copied["audio"], layout.blobs, part / "blobs")
    # Bytes are deleted before their rows: these were being deleted while the backup ran.
    forget(copied["audio"], recordings.missing)
    seconds["blobs"] = round(time.monotonic() - since, 3)
    manifest = {
        "format": FORMAT,
        "began": began.isoformat(),
        "ended": datetime.now(UTC).isoformat(),
        "order": [*([SPOOL] if spool["sha256"] else []), *copied, "blobs"],
        "seconds": seconds,
        "spool": spool,
        "databases": {name: described(path) for name, path in copied.items()},
        "recordings": {
            "count": recordings.kept,
            "bytes": recordings.size,
            "deleted_meanwhile": len(recordings.missing),
        },
        "secrets": _copy_secrets(layout, part),
    }
    write_json(part / MANIFEST, manifest)
    return manifest


def _copy_spool(source: Path, target: Path) -> dict[str, Any]:
    """Copy the segments of the spool's log; return their bytes, receipts and digests.

    A segment that drains in the meantime can be missing: its receipts are in the gateway's store, which is copied
    later.
    Raises BackupError for the spool of an earlier release.
    """
    if source.is_file():
        raise BackupError(f"{source} is the spool of an earlier release: start the gateway of this one first")
    sums: dict[str, str] = {}
    size = receipts = 0
    for segment in sorted(source.glob("*.log")):
        target.mkdir(mode=0o700, exist_ok=True)
        copy = target / segment.name
        with suppress(FileNotFoundError):
            copy_file(segment, copy)
            sums[copy.name] = digest(copy)
            size += copy.stat().st_size
            receipts += sum(payload is not None for _, payload in frames(copy))
    return {"bytes": size, "receipts": receipts, "sha256": sums}


def _copy_secrets(layout: Layout, part: Path) -> list[str]:
    """Copy the files of keys; those that stand in the environment or in a secret manager are not ours to copy."""
    files = {layout.secret_keys: "secrets.key", layout.seed: "seed.json"}
    files |= {path: name for name, path in layout.kept_keys.items()}
    for path, name in files.items():
        if path.exists():
            copy_file(path, part / name)
    return sorted(name for path, name in files.items() if path.exists())


def _check_space(layout: Layout, part: Path) -> None:
    files = [Path(f"{layout.databases[name]}{suffix}") for name in SERVICES for suffix in ("", "-wal")]
    files += layout.databases[SPOOL].glob("*.log")
    needed = sum(file.stat().st_size for file in files if file.exists()) + _SPARE_BYTES
    free = shutil.disk_usage(part).free
    if free < needed:
        raise BackupError(f"{part.parent} has {free >> 20} MB free, {needed >> 20} MB are needed")
