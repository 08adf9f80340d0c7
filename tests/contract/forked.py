"""Commands of the services by the dozen: a process that has imported a service forks for each run of its command.

What is run is `python -m <module> <arguments>` in an environment, a folder and a process of its own, as a user's would
be; only Python's start and the imports, most of a second of processor time, are had once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

_SERVER = """
import importlib, json, os, runpy, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
for line in sys.stdin:
    told = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(told["folder"])
        os.environ.clear()
        os.environ.update(told["env"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(told[name], os.O_WRONLY | os.O_CREAT), number)
        sys.argv = ["", *told["arguments"]]
        runpy.run_module(told["module"], run_name="__main__", alter_sys=True)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forked:
    """One service's process. `run` runs one command at a time."""

    def __init__(self, module: str, *imports: str) -> None:
        """Import what the commands of `module` need, once."""
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, arguments: Sequence[str], env: Mapping[str, str], folder: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m module` with these arguments, as subprocess.run does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with TemporaryDirectory() as made:
            files = {name: f"{made}/{name}" for name in ("out", "err")}
            told = {"module": self._module, "arguments": [*arguments], "env": {**env}, "folder": str(folder)}
            print(json.dumps(told | files), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            out, err = (Path(file).read_text() for file in files.values())
        return subprocess.CompletedProcess([self._module, *arguments], code, out, err)

    def end(self) -> None:
        """End the process."""
        self._process.communicate()
