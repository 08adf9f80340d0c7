"""Which receipts tell of an event: stored as they came, found by the event, and kept by an upgrade."""

from itertools import chain

import pytest
import sqlalchemy as sa
from gateway_world import MIGRATIONS, PARENT, body_of, new_file, opened
from trunkline.gateway.v1 import event_pb2
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline_gateway import schema
from trunkline_gateway.events.receipts import receipts_page
from trunkline_gateway.schema import links_of
from trunkline_runtime.api.paging import place_of
from trunkline_store.migrations import upgrade


async def receipts_of(world, parent):
    request = pb.ListReceiptsRequest(parent=parent, page_size=50)
    return [receipt.receipt_id for receipt in (await world.events.ListReceipts(request, None)).receipts]


async def read(world, query):
    return await world.db.read(lambda conn: conn.execute(query).all())


async def test_what_new_events_write_is_in_the_order_in_which_they_came(tmp_path):
    """Only the entries of the events' key are in that of a digest; a page a row and index was what admission cost."""
    c = schema.event_receipts.c
    async with opened(tmp_path) as world:
        for number in range(40):
            await world.receipt(body_of(number))
        await world.admit()
        jobs = await read(world, sa.text("SELECT job_id FROM jobs ORDER BY rowid"))
        assert jobs == sorted(jobs)
        assert len(jobs) == 40
        times = await read(world, sa.text("SELECT received_at FROM events ORDER BY rowid"))
        assert times == sorted(times)
        assert len(times) == 40
        (links,) = await read(world, sa.text("SELECT sql FROM sqlite_master WHERE name = 'event_receipts'"))
        assert "PRIMARY KEY (seq, tenant_id, event_id)" in links.sql
        assert await read(world, sa.select(c.seq).where(c.first.is_(None))) == []
        await world.receipt(body_of(7))
        await world.admit()
        assert await read(world, sa.select(c.seq).where(c.first.is_(None))) == [(41,)]


async def test_an_index_serves_each_look_for_receipts(tmp_path):
    """Whether of one event or of several: a tenant's links aren't read one by one."""
    links, place = schema.event_receipts, place_of(pb.ListReceiptsRequest(page_size=50), "receipts", PARENT)
    queries = (
        sa.select(links.c.seq).where(links_of("acme", ["e1"])),
        sa.select(links.c.event_id, sa.func.count())
        .where(links_of("acme", ["e1", "e2"]))
        .group_by("event_id"),
        receipts_page("acme", "e1", place, of_source=False).query(),
        links.delete().where(links_of("acme", ["e1", "e2"])),
    )

    def explain(conn, query):
        compiled = query.compile(conn, compile_kwargs={"literal_binds": True})
        return [row[3] for row in conn.execute(sa.text(f"EXPLAIN QUERY PLAN {compiled}"))]

    async with opened(tmp_path) as world:
        for query in queries:
            plan = await world.db.read(lambda conn: explain(conn, query))  # noqa: B023 - awaited right here
            assert any("event_receipts_by_event (tenant_id=? AND event_id=?)" in step for step in plan), plan
            assert any("PRIMARY KEY (seq=? AND tenant_id=? AND event_id=?)" in step for step in plan), plan
            assert not any("SCAN" in step for step in plan if "CONSTANT" not in step), plan


@pytest.mark.parametrize("job_id", ["event_id", "number"])
async def test_a_store_of_the_release_before_keeps_its_receipts_and_jobs(tmp_path, job_id):
    """Rows of release 0107, whose jobs have their events' ids, and of its successor are found alike."""
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    async with opened(tmp_path / "new") as world:
        names = [await world.event(number) for number in range(3)]
        await world.receipt(body_of(1))
        await world.admit()
        told = {name: await receipts_of(world, name) for name in names}
    if job_id == "event_id":
        url = before(tmp_path)
    else:
        url = await new_file(tmp_path / "new")
    async with opened(tmp_path / "old", url=url) as world:
        assert [len(told[name]) for name in names] == [1, 2, 1]
        for name in names:
            assert await receipts_of(world, name) == told[name]
            assert (await world.show(name)).receipt_count == len(told[name])
        assert {event.name: event.receipt_count for event in await world.listed()} == {
            name: len(told[name]) for name in names
        }
        assert sorted(await receipts_of(world, f"{PARENT}/sources/s-1")) == sorted(chain(*told.values()))
        world.receipts = 10
        world.clock.advance(60)
        await world.receipt(body_of(2))
        await world.admit()
        assert (await world.show(names[2])).receipt_count == 2
        claimed = {job.event: job for job in await world.claim()}
        assert set(claimed) == set(names)
        await world.bury(claimed[names[0]])
        await world.finish(claimed[names[1]])
        await world.finish(claimed[names[2]])
        dead = await world.events.ListDeadLetters(pb.ListDeadLettersRequest(parent=PARENT, page_size=9), None)
        assert [event.name for event in dead.events] == names[:1]
        again = await world.replay(names[0])
        assert (again.name, again.state) == (names[0], event_pb2.EVENT_STATE_WAITING)
        cancelled = await world.events.CancelEvent(pb.CancelEventRequest(name=names[0]), None)
        assert cancelled.state == event_pb2.EVENT_STATE_CANCELLED
        purge = pb.PurgeEventsRequest(parent=PARENT, filter="state = done", force=True)
        assert (await world.events.PurgeEvents(purge, None)).purge_count == 2
        for table in (schema.events, schema.jobs, schema.event_receipts, schema.receipts):
            assert await world.rows(table) == 1, table.name


def before(folder):
    """Write what a store holds as the release before had it; the file's URL."""
    new, url = folder / "new" / "gateway.db", f"sqlite:///{folder}/old/gateway.db"
    with sa.create_engine(url).connect() as conn:
        conn.exec_driver_sql(f"ATTACH '{new}' AS new")
        upgrade(conn, MIGRATIONS, "0107")
        for table in (*schema.metadata.tables, "sqlite_sequence"):
            names = [row[1] for row in conn.exec_driver_sql(f"PRAGMA main.table_info({table})")]
            chosen = ", ".join(
                "subject" if (table, name) == ("jobs", "job_id") else f'"{name}"' for name in names
            )
            listed = ", ".join(f'"{name}"' for name in names)
            conn.exec_driver_sql(f"DELETE FROM main.{table}")
            conn.exec_driver_sql(f"INSERT INTO main.{table} ({listed}) SELECT {chosen} FROM new.{table}")
        conn.commit()
    return url
