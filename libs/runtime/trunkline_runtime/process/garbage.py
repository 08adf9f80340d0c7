"""The garbage collector, paced for a server: what start-up made is never looked through again.

Python's own pace (every 700 new objects, and every so often all of the 150,000 that imports leave behind) was made
for scripts: under load the full collections stopped the event loop for 30 to 40 ms, which was all of a webhook's p99.
"""

from __future__ import annotations

import gc

# New objects before a collection, young collections before a middle one, middle ones before a full one.
_PACE = (20_000, 20, 50)


def pace() -> None:
    """Collect less often. Called before anything heavy is imported, which is then faster too."""
    gc.set_threshold(*_PACE)


def settle() -> None:
    """Say that all that is alive now stays for good. Called when the process is ready to serve.

    Does nothing in a process that was not paced: there a server is a part of something else, a test mostly.
    """
    if gc.get_threshold() == _PACE:
        gc.freeze()
