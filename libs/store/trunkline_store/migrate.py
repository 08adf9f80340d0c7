"""`python -m trunkline_store.migrate URL PACKAGE`: brings a database on Spanner to a package's newest revision."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from trunkline_store.errors import StoreError
from trunkline_store.migrations import migrate


def main(arguments: Sequence[str] | None = None) -> int:
    """Migrate; 0 when the database is at the head, 1 with the reason when it is not."""
    parser = argparse.ArgumentParser(prog="python -m trunkline_store.migrate", description=__doc__)
    parser.add_argument("url", help="spanner+spanner:///projects/P/instances/I/databases/D")
    parser.add_argument(
        "package", help="the package that holds versions/, such as trunkline_tenant.migrations"
    )
    told = parser.parse_args(arguments)
    try:
        before, after = migrate(told.url, told.package)
    except StoreError as exc:
        sys.stderr.write(f"{told.package}: {exc}\n")
        return 1
    change = f"is at {after}" if before == after else f"{before or 'empty'} -> {after}"
    sys.stdout.write(f"{told.package}: {change}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
