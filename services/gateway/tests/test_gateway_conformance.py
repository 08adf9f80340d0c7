"""The gateway's conformance suite on every engine."""

from contextlib import asynccontextmanager
from functools import partial
from inspect import signature

import gateway_conforms_admit
import gateway_conforms_events
import gateway_conforms_story
import gateway_conforms_tenants
import pytest
import sqlalchemy as sa
from gateway_conformance import CHECKS, EXCLUSIONS
from gateway_conforms_tenants import lacks_tenant
from gateway_world import MIGRATIONS, opened
from trunkline_gateway import schema
from trunkline_gateway.events.rows import event_conditions, listed
from trunkline_store.engines import ENGINES

from tests.integration.spanner_emulator import migrated_database

PARTS = (gateway_conforms_admit, gateway_conforms_events, gateway_conforms_story, gateway_conforms_tenants)


@asynccontextmanager
async def in_a_file(folder, *sources, **more):
    async with opened(folder, *sources, **more) as world:
        yield world


@asynccontextmanager
async def on_the_emulator(folder, *sources, **more):
    """Each world has a database to itself, which it finds empty."""
    with migrated_database(MIGRATIONS, schema.metadata) as url:
        async with opened(folder, *sources, url=url, **more) as world:
            yield world


ENROLLED = {"sqlite": in_a_file, "spanner": on_the_emulator}


@pytest.mark.parametrize("engine", sorted(ENROLLED))
@pytest.mark.parametrize("name", sorted(CHECKS))
async def test_engine_conforms(engine, name, tmp_path):
    if reason := EXCLUSIONS.get((engine, name)):
        pytest.skip(f"{engine} is let off {name}: {reason}")
    function = CHECKS[name]
    more = {"folder": tmp_path} if "folder" in signature(function).parameters else {}
    await function(partial(ENROLLED[engine], tmp_path), **more)


def test_every_engine_is_enrolled():
    assert set(ENGINES) == set(ENROLLED)


def test_every_part_has_enrolled_its_checks():
    assert {check.__module__ for check in CHECKS.values()} == {part.__name__ for part in PARTS}


def test_exclusions_name_what_is_there():
    for (engine, name), reason in EXCLUSIONS.items():
        assert engine in ENGINES
        assert name in CHECKS
        assert reason


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT events.event_id FROM events WHERE events.event_id = ?",
        "SELECT a.tenant_id FROM a",
        "SELECT a.x FROM a JOIN b ON b.id = a.id WHERE a.tenant_id = ?",
        "SELECT receipts.body FROM receipts WHERE receipts.seq = @p0",
        "UPDATE jobs SET tenant_id=? WHERE job_id = ?",
        "INSERT INTO events (event_id) VALUES (?)",
        "INSERT INTO events (event_id) SELECT r.f0 FROM UNNEST(@p0) AS r",
        "DELETE FROM events WHERE events.event_id = ?",
    ],
)
def test_the_inspection_finds_what_lacks_a_tenant(statement):
    assert lacks_tenant(statement)


@pytest.mark.parametrize(
    ("text", "by", "index"),
    [
        ('receipt_id = "1"', "received_at", "sqlite_autoindex_events_1 (tenant_id=? AND event_id=?)"),
        ("call = c1", "received_at", "events_by_call (tenant_id=? AND call=?)"),
        ('provider_call_id = "1"', "received_at", "events_by_provider_call (tenant_id=? AND provider_call_id=?)"),
        ('update_time > "2026-11-01T00:00:00Z"', "updated_at", "events_by_update (tenant_id=? AND updated_at>?)"),
        ("", "updated_at", "events_by_update (tenant_id=?"),
    ],
)  # fmt: skip
async def test_an_index_serves_each_filter_of_events_in_order(tmp_path, text, by, index):
    column = schema.events.c[by]
    query = listed("acme", [*event_conditions(text, "acme"), column.is_not(None)])
    query = query.order_by(column.desc(), schema.events.c.event_id.desc()).limit(51)

    def explain(conn):
        compiled = query.compile(conn, compile_kwargs={"literal_binds": True})
        return [row[3] for row in conn.execute(sa.text(f"EXPLAIN QUERY PLAN {compiled}"))]

    async with in_a_file(tmp_path) as world:
        plan = await world.db.read(explain)
    assert any(index in step for step in plan), plan
    assert not any("SCAN" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan if "receipt_id" not in text), plan
