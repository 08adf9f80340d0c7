"""Which engines there are, and their modules: loaded by name when first used, so that nothing generic imports one."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

from sqlalchemy.engine import Dialect

from trunkline_store.errors import StoreUnsupported

ENGINES: tuple[str, ...] = ("sqlite", "spanner")


def engine_of(driver: str) -> str:
    """Return the engine's name in a URL's driver or a dialect's name: `spanner+spanner` is spanner.

    Raises StoreUnsupported.
    """
    name = driver.partition("+")[0]
    if name not in ENGINES:
        raise StoreUnsupported(f"store URL {name}: is not one of {', '.join(ENGINES)}")
    return name


def module_of(driver: str, part: str = "") -> Any:
    """Return an engine's package, or one module of it. Raises StoreUnsupported where its libraries are missing."""
    name = engine_of(driver)
    try:
        return importlib.import_module(f"trunkline_store.{name}{part and '.' + part}")
    except ImportError as exc:
        raise StoreUnsupported(f"{name} needs trunkline-store[{name}] installed: {exc}") from exc


def statements_of(dialect: Dialect) -> Any:
    """Return the engine's `statements` module: what it writes or runs in a way of its own."""
    return _statements(dialect.name)


@lru_cache
def _statements(name: str) -> Any:
    return module_of(name, "statements")
