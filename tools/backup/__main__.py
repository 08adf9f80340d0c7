"""`make backup [TO=folder]`, `make restore FROM=folder`; 1: it was not done, and nothing changed."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tools.backup.layout import SPOOL, BackupError, Layout, layout_of
from tools.backup.making import make_backup
from tools.backup.restoring import restore_backup


def main() -> int:
    """Do one of the two."""
    parser = argparse.ArgumentParser(prog="tools.backup", description=__doc__)
    parser.add_argument("--state", type=Path, default=Path("var"), help="the folder that `make up` uses")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("--to", type=Path, default=None)
    restoring = commands.add_parser("restore")
    restoring.add_argument("--from", type=Path, required=True, dest="source")
    asked = parser.parse_args()
    os.umask(0o077)
    began = time.monotonic()
    try:
        layout = layout_of(asked.state)
        if asked.command == "make":
            _make(layout, asked.to)
        else:
            _restore(layout, asked.source)
    except (BackupError, OSError) as error:
        print(f"{asked.command}: {error}", file=sys.stderr)
        return 1
    print(f"{time.monotonic() - began:.1f} s")
    return 0


def _make(layout: Layout, to: Path | None) -> None:
    os.nice(10)  # webhooks go first
    to = (to or layout.backups / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}").absolute()
    manifest = make_backup(layout, to)
    for name in manifest["order"]:
        told = manifest["databases"].get(name) or manifest["spool" if name == SPOOL else "recordings"]
        rows = f"{told.get('count', told.get('receipts'))} {'receipts' if name == SPOOL else 'recordings'}"
        if "rows" in told:
            rows = f"{sum(told['rows'].values())} rows"
        print(f"{name:14} {told['bytes'] / 1e6:10.1f} MB  {rows:>18}  {manifest['seconds'][name]:.2f} s")
    print(f"secrets        {', '.join(manifest['secrets']) or 'none'}: keep the folder as safe as var/")
    print(f"\nrestore it with: make restore FROM={to}")


def _restore(layout: Layout, source: Path) -> None:
    restored = asyncio.run(restore_backup(layout, source.absolute()))
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
    for remark in restored.remarks:
        print(f"note: {remark}")
    for folder in sorted({path.parent for path in restored.aside}):
        print(f"the replaced state is in {folder}")
    print("took: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in restored.seconds.items()))


if __name__ == "__main__":
    sys.exit(main())
