"""The conformance suite on every engine."""

from contextlib import asynccontextmanager

import pytest
from trunkline_store import Database
from trunkline_store.engines import ENGINES
from trunkline_store.testing.conformance import CHECKS, EXCLUSIONS, METADATA

from tests.integration.spanner_emulator import made_database


async def in_a_file(folder):
    return f"sqlite:///{folder}/conformance.db"


async def on_the_emulator(_folder):
    return await made_database(METADATA)


# Each gives the URL of a database that has no rows, and that nobody else opens.
ENROLLED = {"sqlite": in_a_file, "spanner": on_the_emulator}


@pytest.mark.parametrize("engine", sorted(ENROLLED))
@pytest.mark.parametrize("name", sorted(CHECKS))
async def test_engine_conforms(engine, name, tmp_path):
    if reason := EXCLUSIONS.get((engine, name)):
        pytest.skip(f"{engine} is let off {name}: {reason}")
    url = await ENROLLED[engine](tmp_path)

    @asynccontextmanager
    async def factory():
        async with await Database.open(url, METADATA) as database:
            yield database

    await CHECKS[name](factory)


def test_every_engine_is_enrolled():
    assert set(ENGINES) == set(ENROLLED)


def test_exclusions_name_what_is_there():
    for (engine, name), reason in EXCLUSIONS.items():
        assert engine in ENGINES
        assert name in CHECKS
        assert reason
