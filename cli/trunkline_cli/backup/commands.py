"""What `trunkline backup` and `trunkline restore` print. A failure raises BackupError, and nothing has changed."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from trunkline_cli.backup.layout import SPOOL, BackupError, Layout, layout_of
from trunkline_cli.backup.making import make_backup
from trunkline_cli.backup.restoring import restore_backup
from trunkline_cli.screen import waiting


def backup(state: Path, to: Path | None) -> None:
    """Copy the state of a folder. Raises BackupError."""
    os.umask(0o077)
    os.nice(10)  # webhooks go first
    began = time.monotonic()
    try:
        layout = layout_of(state)
        _make(layout, (to or layout.backups / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}").absolute())
    except OSError as error:
        raise BackupError(f"backup: {error}") from None
    print(f"{time.monotonic() - began:.1f} s")


def restore(state: Path, source: Path) -> None:
    """Put a backup in the place of the state of a folder. Raises BackupError."""
    os.umask(0o077)
    began = time.monotonic()
    try:
        _restore(layout_of(state), source)
    except OSError as error:
        raise BackupError(f"restore: {error}") from None
    print(f"{time.monotonic() - began:.1f} s")


def _make(layout: Layout, to: Path) -> None:
    with waiting() as say:
        manifest = make_backup(layout, to, lambda text: say(text, passing=True))
    for name in manifest["order"]:
        told = manifest["databases"].get(name) or manifest["spool" if name == SPOOL else "recordings"]
        rows = f"{told.get('count', told.get('receipts'))} {'receipts' if name == SPOOL else 'recordings'}"
        if "rows" in told:
            rows = f"{sum(told['rows'].values())} rows"
        print(f"{name:14} {told['bytes'] / 1e6:10.1f} MB  {rows:>18}  {manifest['seconds'][name]:.2f} s")
    print(f"secrets        {', '.join(manifest['secrets']) or 'none'}: keep the folder as safe as var/")
    print(f"\nrestore it with: trunkline restore {to} --state {layout.folder.absolute()}")


def _restore(layout: Layout, source: Path) -> None:
    with waiting() as say:
        restored = asyncio.run(
            restore_backup(layout, source.absolute(), lambda text: say(text, passing=True))
        )
    manifest = restored.manifest
    print(f"the state of {manifest['began']} is back: {', '.join(manifest['order'])}")
    for name, told in manifest["databases"].items():
        print(f"{name:14} {told['bytes'] / 1e6:10.1f} MB  {sum(told['rows'].values()):>9} rows")
    print(f"{'blobs':14} {restored.recordings:>9} recordings")
    if restored.deleted:
        print(
            f"tenants deleted since or before stay deleted: {', '.join(restored.deleted)}"
            f" ({restored.rows_removed} rows of theirs removed)"
        )
    if restored.erased.resources:
        print(f"recordings and transcripts deleted since stay deleted: {restored.erased.resources}")
    if restored.erased.calls:
        print(
            f"calls erased since: {restored.erased.calls}; the gateway erases them again when the suite starts"
        )
    for remark in restored.remarks:
        print(f"note: {remark}")
    for folder in sorted({path.parent for path in restored.aside}):
        print(f"the replaced state is in {folder}")
    print("took: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in restored.seconds.items()))
