"""The suite's four databases on the real Spanner emulator, made and migrated as an operator makes them."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from trunkline_store import StoreError
from trunkline_store.spanner.emulator import Emulator

from tools.suite.processes import SuiteError

SERVICES = ("gateway", "tenant", "audio", "ai")


def with_store(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the choice of the stores' engine."""
    parser.add_argument("--store", choices=("sqlite", "spanner"), default="sqlite")
    return parser


def stores(stack: ExitStack, engine: str, folder: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Make the stores that a suite is to run on, for as long as `stack` is open; its settings. Raises SuiteError."""
    if engine == "sqlite":
        return {}
    say("starting the Spanner emulator, creating four databases")
    settings = stack.enter_context(emulated(folder))
    say("migrating them")
    migrate(settings)
    return settings


@contextmanager
def emulated(folder: Path) -> Iterator[dict[str, str]]:
    """Give the settings of a suite whose stores are on an emulator, which runs while the block lasts.

    Raises SuiteError where there is no emulator.
    """
    try:
        emulator = Emulator()
        emulator.start()
    except (StoreError, ImportError) as error:
        raise SuiteError(f"STORE=spanner: {error}") from error
    try:
        urls = {name: emulator.create_database(f"trunkline-{name}") for name in SERVICES}
        yield settings(urls, folder)
    finally:
        emulator.stop()


def settings(urls: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What tells each service where its store is, and the gateway where its spool is, as it has no file."""
    return {
        **{f"TRUNKLINE_{name.upper()}_STORE_URL": url for name, url in urls.items()},
        "TRUNKLINE_GATEWAY_SPOOL_PATH": str(folder / "gateway.spool"),
    }


def migrate(settings: Mapping[str, str]) -> None:
    """Bring every database to its service's newest revision. Raises SuiteError."""
    for name in SERVICES:
        command = [
            sys.executable, "-m", "trunkline_store.migrate",
            settings[f"TRUNKLINE_{name.upper()}_STORE_URL"], f"trunkline_{name}.migrations",
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode != 0:
            raise SuiteError(f"{' '.join(command[1:])} ended with {ended.returncode}:\n{ended.stderr}")
