"""Runs the benches that are named, or all of them."""

from __future__ import annotations

import argparse
import importlib
import sys

NAMES = (
    "ingest", "pipeline", "audio", "start", "scenarios", "isolation", "record", "recovery", "growth", "backup",
    "phrases", "edge", "rollout", "ai", "watch",
)  # fmt: skip


def main() -> int:
    """Run each; 2 for a name or key that is not one of them, 1 when one failed to run."""
    parser = argparse.ArgumentParser(prog="tools.bench")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}; all without any")
    parser.add_argument("--keys", default="", help="of the bench audio, separated by spaces: these alone")
    given = parser.parse_args()
    keys = given.keys.split()
    wanted = [name for name in given.names if name] or list(NAMES)
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        print(f"there is no bench {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    if keys and wanted != ["audio"]:
        print("only the bench audio takes keys: make bench audio KEYS=...", file=sys.stderr)
        return 2
    for name in wanted:
        measure = importlib.import_module(f"tools.bench.{name}").main
        if not keys:
            measure()
            continue
        try:
            measure(keys)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
