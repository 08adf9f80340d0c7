"""The commands of the documents: found in their fences, and run in one shell a document."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = frozenset({"sh", "bash", "console"})
OTHERS = frozenset({"text", "json", "ini", "python", "sql", "proto", "yaml"})

_EXPORT = re.compile(r"(\w+)=(\"[^\"]*\"|\S+)")
_MAY_FAIL = re.compile(r"^curl(?= .*\|\| true$)", re.MULTILINE)
_CURL = """#!/bin/bash
# As the document has it, but a refusal is a failure. What a watch is to bring to the gateway comes in a moment.
[[ " $* " == *" --fail "* ]] || set -- --fail-with-body "$@"
for attempt in $(seq "${{ATTEMPTS:-20}}"); do
  "{curl}" --silent --show-error --max-time 20 "$@" && exit 0
  code=$?
  sleep 0.25
done
exit $code
"""
_NOTHING = '#!/bin/bash\ncat > /dev/null\necho "$(basename "$0") $*" >> "$LOG"\n'  # a pipe into it is read to its end
_SUDO = """#!/bin/bash
while [[ "$1" == -* ]]; do [[ "$1" == -u ]] && shift; shift; done
exec "$@"
"""
# What changes the machine: that it is called is all that is looked at.
_FOREIGN = (
    "systemctl", "journalctl", "chown", "git", "apt-get", "systemd-sysusers", "systemd-tmpfiles", "docker-install",
    "pip", "docker", "id", "timedatectl", "certbot", "amtool",
)  # fmt: skip


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    line: int
    language: str
    text: str


def blocks(document: Path) -> Iterator[Block]:
    """Give a document's fenced blocks."""
    begun: tuple[int, str] | None = None
    inside: list[str] = []
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if not line.lstrip().startswith("```"):
            inside.append(line)
        elif begun is None:
            begun, inside = (number, line.strip().removeprefix("```")), []
        else:
            yield Block(*begun, "\n".join(inside) + "\n")
            begun = None


def commands(document: Path) -> list[Block]:
    """The blocks that a reader would paste into a shell."""
    return [block for block in blocks(document) if block.language in COMMANDS]


def without_own_values(text: str, values: Mapping[str, str]) -> str:
    """Take out of a script what the reader is to fill in (`KEY=tl_...`); each must be among the values."""
    lines = []
    for line in text.splitlines():
        if line.startswith("export "):
            for name, value in _EXPORT.findall(line):
                if "..." in value or "SOURCE_ID" in value:
                    assert name in values, f"nobody says what {name} is"
                    line = line.replace(f"{name}={value}", f"{name}={values[name]!r}")
        lines.append(line)
    return "\n".join(lines) + "\n"


class Shell:
    """Runs documented commands in a folder, with the programs that change the machine replaced."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.log = folder / "called"
        self.log.touch()
        self._programs = folder / "programs"
        self._programs.mkdir()
        self.put("curl", _CURL.format(curl=shutil.which("curl")))
        self.put("make", f'#!/bin/bash\nexec {shutil.which("make")} --no-print-directory -n -C {ROOT} "$@"\n')
        self.put("sudo", _SUDO)
        for name in _FOREIGN:
            self.put(name, _NOTHING)
        grpcurl = ROOT / ".tools" / "grpcurl"
        self.put("grpcurl", f'#!/bin/bash\nexec {grpcurl} "$@"\n' if grpcurl.exists() else _NOTHING)

    def put(self, name: str, text: str) -> None:
        """Put a program in the place of the machine's."""
        path = self._programs / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, script: str, env: Mapping[str, str]) -> str:
        """Run a script, at its first failure to the end; return what it printed."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
        script = _MAY_FAIL.sub("ATTEMPTS=1 curl", script)
        path = f"{self._programs}:{ROOT / '.venv/bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            env={**own, **env, "PATH": path, "LOG": str(self.log)},
            cwd=self.folder, capture_output=True, text=True, timeout=150, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stderr[-3000:]}\n{done.stdout[-2000:]}"
        return done.stdout
