"""Runs the benches that are named, or all of them."""

from __future__ import annotations

import importlib
import sys

NAMES = (
    "ingest", "pipeline", "audio", "start", "scenarios", "isolation", "record", "recovery", "growth", "backup",
    "phrases",
)  # fmt: skip


def main() -> int:
    """Run each; 2 for a name that is not one of them, 1 when one failed to run."""
    wanted = [name for name in sys.argv[1:] if name] or list(NAMES)
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        print(f"there is no bench {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in wanted:
        importlib.import_module(f"tools.bench.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
