"""The conformance suite on every engine."""

from contextlib import asynccontextmanager

import pytest
from trunkline_store import Database
from trunkline_store.engines import ENGINES
from trunkline_store.testing.conformance import CHECKS, EXCLUSIONS, METADATA

from tests.integration.spanner_emulator import require_emulator

# Each gives the URL of a database that is empty, and that nobody else opens.
ENROLLED = {
    "sqlite": lambda folder: f"sqlite:///{folder}/conformance.db",
    "spanner": lambda folder: require_emulator().create_database(),
}


@pytest.mark.parametrize("engine", sorted(ENROLLED))
@pytest.mark.parametrize("name", sorted(CHECKS))
async def test_engine_conforms(engine, name, tmp_path):
    if reason := EXCLUSIONS.get((engine, name)):
        pytest.skip(f"{engine} is let off {name}: {reason}")
    url = ENROLLED[engine](tmp_path)

    @asynccontextmanager
    async def factory():
        async with await Database.open(url, METADATA) as database:
            yield database

    try:
        await CHECKS[name](factory)
    finally:
        if engine == "spanner":
            require_emulator().drop_database(url)


def test_every_engine_is_enrolled():
    assert set(ENGINES) == set(ENROLLED)


def test_exclusions_name_what_is_there():
    for (engine, name), reason in EXCLUSIONS.items():
        assert engine in ENGINES
        assert name in CHECKS
        assert reason
