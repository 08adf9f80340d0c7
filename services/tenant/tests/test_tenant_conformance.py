"""The suite of this service's store is one: every engine is enrolled in it, and keeps the same promises."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
from pathlib import Path

import sqlalchemy as sa
from trunkline.tenant.v1 import call_service_pb2, lead_service_pb2, source_service_pb2
from trunkline_store.engines import ENGINES
from trunkline_tenant.leads import rows as lead_rows
from trunkline_tenant.schema import metadata, source_changes, source_secrets

from tests.integration.spanner_emulator import made_by_revisions, spanner_url  # noqa: F401 - a fixture

from .conftest import make_config, running
from .tenant_conformance import ENROLLED, EXCLUSIONS
from .test_tenant_isolation import statements


def functions_here():
    """Every test function, by name."""
    for file in sorted(Path(__file__).parent.glob("test_tenant_*.py")):
        module = importlib.import_module(f"{__package__}.{file.stem}")
        yield from inspect.getmembers(module, inspect.isfunction)


def test_every_engine_is_enrolled():
    assert set(ENROLLED) == set(ENGINES)


def test_exclusions_name_tests_that_are_there():
    there = dict(functions_here())
    for (engine, name), reason in EXCLUSIONS.items():
        assert engine in ENGINES
        assert {"suite", "filled", "store_url"} & set(inspect.signature(there[name]).parameters), name
        assert reason


async def test_on_spanner_revisions_make_what_the_tables_declare(spanner_url):  # noqa: F811
    await made_by_revisions(spanner_url, "trunkline_tenant.migrations", metadata)


async def test_a_callback_that_is_run_again_leaves_one_effect(suite, monkeypatch):
    """Engines abort transactions and run their callbacks again: here every one, after all its work is done."""
    write = suite.app.db.write

    class Aborted(Exception):
        pass

    async def twice(fn, **kwargs):
        def first(conn):
            fn(conn)
            raise Aborted

        with contextlib.suppress(Aborted):
            await write(first, **kwargs)
        return await write(fn, **kwargs)

    monkeypatch.setattr(suite.app.db, "write", twice)
    await suite.tenant("other", request_id="t1")
    source = await suite.source("other", request_id="s1", fetch_credential="k", provider_account="A")
    rotate = source_service_pb2.RotateSourceSecretRequest(name=source.name, secret="next")
    await suite.operator.RotateSourceSecret(rotate)
    await suite.record("e1", 1, tenant="other", provider_call_id="766", caller_number="+12148654559")
    await suite.record("e2", 2, tenant="other", provider_call_id="CAL766")
    call = await suite.record("e3", 3, tenant="other", provider_call_id="CAL766", aliases=["766"])
    lead = await suite.operator.GetLead(lead_service_pb2.GetLeadRequest(name=call.lead))
    assert lead.call_count == 1
    listed = await suite.operator.ListCalls(call_service_pb2.ListCallsRequest(parent="tenants/other"))
    assert [each.name for each in listed.calls] == [call.name]

    def count(conn):
        tables = (source_secrets, source_changes)
        return [conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in tables]

    assert await suite.app.db.read(count) == [
        3,
        1,
    ]  # two that verify, one that fetches; one change of one source


async def test_replicas_over_one_database_lose_nothing_of_each_other(suite):
    """Two processes record events of the same calls at once; Spanner aborts one transaction of two."""
    async with running(make_config(suite.config.store_url)) as other:
        replicas = (suite, other)
        await asyncio.gather(
            *(
                replicas[number % 2].record(
                    f"e{number}", number, provider_call_id=f"CAL{number % 3}", caller_number="+12148654559",
                    mask=["caller_number", "note", "value"][: 1 + number % 3], note=f"n{number}", value="7",
                )
                for number in range(12)
            )
        )  # fmt: skip
        listed = await other.operator.ListCalls(call_service_pb2.ListCallsRequest(parent="tenants/acme"))
        assert len(listed.calls) == 3
        calls = [await suite.get_call(call.name) for call in listed.calls]
        assert [len(call.events) for call in calls] == [4, 4, 4]
        leads = await suite.operator.ListLeads(lead_service_pb2.ListLeadsRequest(parent="tenants/acme"))
        assert [lead.call_count for lead in leads.leads] == [3]


async def test_a_list_may_be_old_and_what_is_asked_by_name_is_not(store_url):
    parent = "tenants/acme"
    async with running(make_config(store_url, list_staleness_seconds=3.0)) as suite:
        await suite.tenant()
        call = await suite.record("e1", 1, caller_number="+12148654559")

        async def listed():
            calls = await suite.operator.ListCalls(call_service_pb2.ListCallsRequest(parent=parent))
            leads = await suite.operator.ListLeads(lead_service_pb2.ListLeadsRequest(parent=parent))
            return [len(calls.calls), len(leads.leads)]

        assert await listed() == ([0, 0] if store_url.startswith("spanner") else [1, 1])
        assert (await suite.get_call(call.name)).name == call.name
        async with asyncio.timeout(20):
            while await listed() != [1, 1]:
                await asyncio.sleep(0.05)


async def test_a_lead_is_derived_over_its_own_index(suite):
    with statements() as seen:
        await suite.record("e1", 1, caller_number="+12148654559")
    derived = [text for text in seen if "FROM calls" in text and "calls.lead_id IS NOT NULL" in text]
    assert len(derived) == 4
    named = {text.count("@{FORCE_INDEX=calls_by_lead}") for text in derived}
    assert named == ({1} if suite.app.db.engine == "spanner" else {0})


def test_a_lead_is_read_from_its_own_index_on_sqlite():
    """Planned without statistics: an index that suits the order or the groups must not win over the lead's own."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as conn:
        metadata.create_all(conn)
        for hot in (lead_rows._FIRST, lead_rows._LAST, lead_rows._NAMING, lead_rows._BY_VALUES):
            text = hot._statement.compile(engine)
            plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", (None,) * len(text.positiontup)).all()
            assert "INDEX calls_by_lead (tenant_id=? AND lead_id=?)" in plan[0][3], plan


def test_each_engine_gives_its_own_store(engine, store_url):
    assert store_url.startswith(engine)
