"""Runs the tests that failed beside others once more, with nothing beside them: `python -m tools.again`.

Hundreds of tests start processes, kill them, and wait, two files side by side, on machines that others use too. A test
that fails there and passes by itself depends on time or on its neighbours. That is a fault to mend, in the test or in
what it tests, and its name is printed last; but it is no reason to throw the change away. A change that breaks
something fails both times. More failures than MOST are never chance, so none of them is run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MOST = 3
_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def main() -> int:
    """Return 0 when at most MOST tests had failed and all of them pass now."""
    failed = sorted(json.loads(_FAILED.read_text())) if _FAILED.exists() else []
    if not 0 < len(failed) <= MOST:
        return 1
    print(f"\n{len(failed)} failed beside other tests; once more, with nothing beside them:", flush=True)
    if subprocess.run([sys.executable, "-m", "pytest", *failed], check=False).returncode:
        return 1
    for name in failed:
        print(f"UNSTEADY: {name} failed beside other tests and passed by itself: mend it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
