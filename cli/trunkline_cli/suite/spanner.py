"""The suite's four databases on the real Spanner emulator, made and migrated as an operator makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from trunkline_store import StoreError
from trunkline_store.spanner.emulator import Emulator

from trunkline_cli.services import STORES as SERVICES
from trunkline_cli.services import migrate_one
from trunkline_cli.suite.processes import SuiteError


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
        raise SuiteError(f"cannot use the store spanner: {error}") from error
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
    """Bring every database to its service's newest revision. Raises Failure."""
    for name in SERVICES:
        migrate_one(name, settings[f"TRUNKLINE_{name.upper()}_STORE_URL"])
