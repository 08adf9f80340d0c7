"""Runs a module as `python -m` does, and ends it when the process that started it ends, however that one ends.

Its standard input is a pipe that only the starter can write to: the kernel closes it with the starter.
"""

import os
import runpy
import signal
import sys
import threading
import time

# A service drains for 8 s by default.
_GRACE_SECONDS = 15.0


def follow() -> None:
    """Wait for the end of standard input, then end this process."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=follow, name="follow", daemon=True).start()
    sys.path[0] = os.getcwd()  # as with -m; it was the folder of this file
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
