"""The ai service's conformance suite on every engine."""

import functools
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
from ai_conformance import CHECKS, EXCLUSIONS, World
from trunkline_ai.tables import metadata
from trunkline_store import Database, FakeClock
from trunkline_store.database import ENGINES
from trunkline_store.migrations import migrate

from tests.integration.spanner_emulator import require_emulator

MIGRATIONS = "trunkline_ai.migrations"


@functools.cache
def migrated_database():
    """The session's database on the emulator; each check finds it empty."""
    url = require_emulator().create_database()
    migrate(url, MIGRATIONS)
    return url


def empty(conn):
    for table in reversed(metadata.sorted_tables):
        conn.execute(sa.delete(table).where(sa.true()))


ENROLLED = {
    "sqlite": lambda folder: f"sqlite:///{folder}/ai.db",
    "spanner": lambda folder: migrated_database(),
}


@asynccontextmanager
async def opened(engine, folder):
    clock = FakeClock()
    async with await Database.open(
        ENROLLED[engine](folder), metadata, migrations=MIGRATIONS, clock=clock
    ) as db:
        await db.write(empty)
        yield World(db, clock)


@pytest.mark.parametrize("engine", sorted(ENROLLED))
@pytest.mark.parametrize("name", sorted(CHECKS))
async def test_engine_conforms(engine, name, tmp_path):
    if reason := EXCLUSIONS.get((engine, name)):
        pytest.skip(f"{engine} is let off {name}: {reason}")
    async with opened(engine, tmp_path) as world:
        await CHECKS[name](world)


def test_every_engine_is_enrolled():
    assert set(ENGINES) == set(ENROLLED)


def test_exclusions_name_what_is_there():
    for (engine, name), reason in EXCLUSIONS.items():
        assert engine in ENGINES
        assert name in CHECKS
        assert reason
