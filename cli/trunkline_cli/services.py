"""What the services' own commands do, under one name: their settings, a check of them, migrations, speech models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from trunkline_cli.screen import Failure, Misuse, Say

STORES = ("gateway", "tenant", "audio", "ai")
# In the order in which a suite starts them.
COMMANDS = {
    "tenant": ("trunkline_tenant",),
    "audio": ("trunkline_audio",),
    "ai": ("trunkline_ai",),
    "gateway": ("trunkline_gateway", "serve"),
    "worker": ("trunkline_gateway", "work"),
}


def run(*arguments: str) -> int:
    """Run a module of this Python to its end, on this terminal; its exit code."""
    return subprocess.run([sys.executable, "-m", *arguments], check=False).returncode


def named(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the services that were named, all when none was. Raises Misuse."""
    if unknown := [name for name in given if name not in known]:
        raise Misuse(f"there is no service {', '.join(unknown)}; there are {', '.join(known)}")
    return list(given or known)


def settings(services: Sequence[str]) -> int:
    """Print the settings of services."""
    return max(run(*COMMANDS[name], "--help") for name in named(services, tuple(COMMANDS)))


def check(services: Sequence[str]) -> int:
    """Verify the settings of services in this environment, and that each reaches the others; 1 if one is wrong."""
    wrong = False
    for name in named(services, tuple(COMMANDS)):
        print(f"{name}: ", end="", flush=True)
        wrong |= run(*COMMANDS[name], "--check") != 0
    return int(wrong)


def migrate(services: Sequence[str], say: Say) -> None:
    """Bring stores to their services' newest revisions. Raises Misuse where a URL is not set, and Failure."""
    wanted = named(services, STORES)
    urls = {name: os.environ.get(f"TRUNKLINE_{name.upper()}_STORE_URL", "") for name in wanted}
    if missing := [f"TRUNKLINE_{name.upper()}_STORE_URL" for name, url in urls.items() if not url]:
        other = "" if services else ", or name the services to migrate"
        raise Misuse(f"set {', '.join(missing)}{other}")
    for name, url in urls.items():
        say(f"migrating {name}", passing=True)
        say(migrate_one(name, url))


def migrate_one(name: str, url: str) -> str:
    """Bring one store to its service's newest revision; what changed. Raises Failure."""
    command = [sys.executable, "-m", "trunkline_store.migrate", url, f"trunkline_{name}.migrations"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise Failure(f"{name} was not migrated:\n{ended.stderr.strip()}")
    return ended.stdout.strip()
