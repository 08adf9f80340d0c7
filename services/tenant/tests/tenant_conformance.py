"""The engines that the tests of this service run on, each giving the URL of an empty store, and what one is let off."""

from __future__ import annotations

import functools

import pytest
import sqlalchemy as sa
from trunkline_store import Database
from trunkline_store.migrations import migrate
from trunkline_tenant.schema import metadata

from tests.integration.migrated_file import migrated_file
from tests.integration.spanner_emulator import require_emulator

MIGRATIONS = "trunkline_tenant.migrations"


async def sqlite_store(folder):
    """A file of the test's own."""
    return await migrated_file(folder / "tenant.db", metadata, MIGRATIONS)


async def spanner_store(_folder):
    """The session's database on the emulator, migrated once and emptied for each test."""
    url = migrated_database()
    async with await Database.open(url, metadata, migrations=MIGRATIONS, readers=1) as db:
        await db.write(empty)
    return url


@functools.cache
def migrated_database():
    url = require_emulator().create_database()
    migrate(url, MIGRATIONS)
    return url


def empty(conn):
    for table in reversed(metadata.sorted_tables):
        conn.execute(sa.delete(table).where(sa.true()))


ENROLLED = {"sqlite": sqlite_store, "spanner": spanner_store}

on_one_engine = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""For rules of what a request may say, which the service keeps before it asks its store."""

EXCLUSIONS = {
    ("sqlite", "test_replicas_over_one_database_lose_nothing_of_each_other"): (
        "one process holds the file; a second is refused"
    ),
    ("spanner", "test_an_index_serves_each_filter_in_order"): "the emulator tells no query plans",
    ("spanner", "test_any_order_with_repeats_gives_the_same_rows"): (
        "its hundreds of transactions are slow on the emulator; "
        "test_events_of_a_call_make_the_same_row_in_every_order shows the same there"
    ),
    ("spanner", "test_a_second_service_on_the_same_file_is_refused_by_the_name_of_the_setting"): (
        "any number of processes share a database there"
    ),
}
"""(engine, test) -> why the tests on that engine leave it out."""
