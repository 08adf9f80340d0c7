"""Which database, and the settings of its pools: all of it from the store URL."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields

from sqlalchemy.engine import URL

from trunkline_store.errors import StoreUnsupported

EMULATOR = "SPANNER_EMULATOR_HOST"
_PATH = re.compile(r"projects/([^/]+)/instances/([^/]+)/databases/([^/]+)")


@dataclass(frozen=True)
class Address:
    """A database's name and how to work with it.

    Settings stand in the URL's query: `...databases/D?writers=16&deadline_seconds=5`.
    """

    project: str
    instance: str
    database: str
    emulator: str | None
    """host:port of an emulator (SPANNER_EMULATOR_HOST): plaintext, no credentials."""
    writers: int = 8
    """Write callbacks that run at once, each with a thread and a session. The emulator runs one transaction at a
    time, so 1 there unless told."""
    appends: int = 4
    """Commits of appended rows under way at once; 1 on the emulator unless told."""
    deadline_seconds: float = 15.0
    """For a read, a write or an append as a whole, repetitions included."""
    commit_delay_ms: int = 0
    """How long Spanner may hold a commit of appended rows to gather more (0 to 500)."""

    @property
    def name(self) -> str:
        """The database's resource name."""
        return f"projects/{self.project}/instances/{self.instance}/databases/{self.database}"


_RANGES = {
    "writers": (1, 256),
    "appends": (1, 64),
    "deadline_seconds": (0.1, 3600.0),
    "commit_delay_ms": (0, 500),
}


def parse_address(url: URL) -> Address:
    """Read a store URL; StoreUnsupported tells what is wrong with it."""
    found = _PATH.fullmatch(url.database or "")
    if found is None or url.host:
        raise StoreUnsupported(
            f"{url}: give spanner+spanner:///projects/PROJECT/instances/INSTANCE/databases/DATABASE"
        )
    project, instance, database = found.groups()
    emulator = os.environ.get(EMULATOR) or None
    settings: dict[str, float] = {"writers": 1, "appends": 1} if emulator else {}
    kinds = {field.name: field.type for field in fields(Address)}
    for name, text in url.query.items():
        if name not in _RANGES:
            raise StoreUnsupported(f"{url}: setting {name} is not one of {', '.join(_RANGES)}")
        low, high = _RANGES[name]
        try:
            value = float(str(text))
            if kinds[name] == "int":
                value = int(str(text))
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise StoreUnsupported(f"{url}: {name} must be a number from {low} to {high}")
        settings[name] = value
    return Address(project, instance, database, emulator, **settings)  # type: ignore[arg-type]
