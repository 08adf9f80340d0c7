"""The queue where many processes share it: on Spanner."""

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa
from trunkline_jobs import LeaseLost, NewJob, Queue, jobs_table
from trunkline_store import Database, SystemClock
from trunkline_store.migrations import migrate

from tests.integration.spanner_emulator import require_emulator, spanner_url  # noqa: F401 - a fixture

METADATA = sa.MetaData()
JOBS = jobs_table(METADATA)

REVISION = """
import trunkline_jobs
from alembic import op
revision = "0001"
down_revision = None

def upgrade():
    trunkline_jobs.create_v1(op)
    trunkline_jobs.create_v2(op)
    trunkline_jobs.create_v3(op)
"""


def new(job_id, tenant="acme", **values):
    return NewJob(job_id, tenant, "pipeline", f"event-{job_id}", stage="normalise", **values)


async def test_processes_that_claim_at_once_never_hold_one_job(spanner_url):  # noqa: F811
    async with (
        await Database.open(spanner_url, METADATA) as one,
        await Database.open(f"{spanner_url}?writers=2", METADATA) as other,
    ):
        queues = [Queue(one, JOBS), Queue(other, JOBS)]
        jobs = [new(f"{n:02}", tenant=f"t{n % 3}") for n in range(40)]
        assert len(await queues[0].run(queues[0].enqueue_many, jobs)) == 40
        claims = await asyncio.gather(
            *[queues[n % 2].run(queues[n % 2].claim, f"w{n}", 5, 30.0) for n in range(10)]
        )
        held = [job.job_id for claim in claims for job in claim]
        assert len(held) == len(set(held)) == 40


class Slow(SystemClock):
    """The clock of a machine whose time is months behind."""

    def now(self):
        return super().now() - timedelta(days=90)


async def test_leases_run_by_the_databases_time(spanner_url):  # noqa: F811
    """A process whose own clock is wrong, as told by the clock it would have asked, changes nothing."""
    async with await Database.open(spanner_url, METADATA, clock=Slow()) as db:
        queue = Queue(db, JOBS)
        await queue.run(queue.enqueue_many, [new("a")])
        now = await db.read(lambda conn: conn.exec_driver_sql("SELECT CURRENT_TIMESTAMP()").scalar_one())
        [job] = await queue.run(queue.claim, "w1", 1, 30.0)
        assert timedelta(0) <= job.lease_until - now - timedelta(seconds=30) < timedelta(seconds=20)
        assert await queue.run(queue.claim, "w2", 1, 30.0) == []
        until = await queue.run(queue.renew, job.lease, 0.0)
        assert until > now
        async with asyncio.timeout(10):
            while not (again := await queue.run(queue.claim, "w2", 1, 30.0)):
                await asyncio.sleep(0.01)
        with pytest.raises(LeaseLost):
            await queue.run(queue.complete, job.lease)
        await queue.run(queue.complete, again[0].lease)


async def test_the_revision_makes_what_the_tables_declare(spanner_url, tmp_path, monkeypatch):  # noqa: F811
    name = f"jobs_revisions_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name / "versions").mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "versions" / "0001_jobs.py").write_text(REVISION)
    monkeypatch.syspath_prepend(str(tmp_path))
    migrate(spanner_url, name)
    emulator = require_emulator()
    declared = emulator.create_database()
    async with await Database.open(declared, METADATA) as db:
        await db.check()
    schema = emulator.schema_of(declared)
    assert emulator.schema_of(spanner_url) == schema
    assert any("NULL_FILTERED INDEX jobs_queue" in one and "STORING (group_key)" in one for one in schema)
    emulator.drop_database(declared)
