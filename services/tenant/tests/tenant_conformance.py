"""The engines that the tests of this service run on, each giving the URL of an empty store, and what one is let off."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from trunkline_tenant.schema import metadata

from tests.integration.migrated_file import migrated_file
from tests.integration.spanner_emulator import migrated_database

MIGRATIONS = "trunkline_tenant.migrations"


@asynccontextmanager
async def sqlite_store(folder):
    """A file of the test's own."""
    yield await migrated_file(folder / "tenant.db", metadata, MIGRATIONS)


@asynccontextmanager
async def spanner_store(_folder):
    """A database on the emulator, migrated once a session and emptied for each test."""
    with migrated_database(MIGRATIONS, metadata) as url:
        yield url


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
