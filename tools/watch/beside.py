"""Runs a program as its child, with its own output, and ends it on SIGTERM: what ends with its starter is a module.

`python -m tools.watch.beside PROGRAM ARGUMENT...`
"""

from __future__ import annotations

import signal
import subprocess
import sys


def main(command: list[str]) -> int:
    """Run a program to its end; return its exit code, as a shell has it."""
    process: subprocess.Popen[bytes] | None = None
    asked = False

    def end(*_: object) -> None:
        nonlocal asked
        asked = True
        if process is not None:
            process.terminate()

    # Before there is a program: a signal that came first would end this process only, and leave the program.
    signal.signal(signal.SIGTERM, end)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    if asked:
        process.terminate()
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
