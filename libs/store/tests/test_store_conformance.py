"""The conformance suite on every engine that is there."""

from contextlib import asynccontextmanager

import pytest
from trunkline_store import Database, StoreUnsupported
from trunkline_store.conformance import CHECKS, EXCLUSIONS, METADATA
from trunkline_store.database import ENGINES

ENROLLED = {"sqlite": lambda folder: f"sqlite:///{folder}/conformance.db"}
# Engines whose place is ready and that this version refuses to open; each must indeed refuse.
AWAITED = {"spanner": "spanner+spanner:///projects/p/instances/i/databases/d"}


@pytest.mark.parametrize("engine", sorted(ENROLLED))
@pytest.mark.parametrize("name", sorted(CHECKS))
async def test_engine_conforms(engine, name, tmp_path):
    if reason := EXCLUSIONS.get((engine, name)):
        pytest.skip(f"{engine} is let off {name}: {reason}")

    @asynccontextmanager
    async def factory():
        async with await Database.open(ENROLLED[engine](tmp_path), METADATA) as database:
            yield database

    await CHECKS[name](factory)


def test_every_engine_is_enrolled():
    assert set(ENGINES) == set(ENROLLED) | set(AWAITED)


def test_exclusions_name_what_is_there():
    for (engine, name), reason in EXCLUSIONS.items():
        assert engine in ENGINES
        assert name in CHECKS
        assert reason


@pytest.mark.parametrize("url", AWAITED.values())
async def test_an_awaited_engine_refuses_clearly(url):
    with pytest.raises(StoreUnsupported, match="not supported by this version"):
        await Database.open(url, METADATA)
