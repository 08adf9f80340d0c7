"""The revision that keys a queue's jobs by tenant: a store of the version before opens with all that was in it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from trunkline_jobs import JobState, Queue, jobs_table
from trunkline_store import Database, FakeClock, StoreError
from trunkline_store.engines import ENGINES
from trunkline_store.migrations import migrate

from tests.integration.spanner_emulator import require_emulator

METADATA = sa.MetaData()
JOBS = jobs_table(METADATA)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
FIRST = """
import trunkline_jobs
from alembic import op
revision = "0001"
down_revision = None

def upgrade():
    trunkline_jobs.create_v1(op)
    trunkline_jobs.create_v2(op)
"""
SECOND = """
from pathlib import Path

import sqlalchemy as sa
import trunkline_jobs
from alembic import op
from trunkline_store import StoreError
revision = "0002"
down_revision = "0001"


class Stopping:
    '''The operations of a migration that is stopped at one of them, and what was before it happened.'''

    def __init__(self, at, count):
        self.at, self.left = at, int(count)

    def __getattr__(self, name):
        if name == self.at:
            self.left -= 1
            if self.left == 0:
                op.get_bind().execute(sa.select(sa.literal(1)))
                raise StoreError(f"stopped at {name}")
        return getattr(op, name)


def upgrade():
    stop = Path(__file__).with_name("stop.txt")
    by = Stopping(*stop.read_text().split()) if stop.exists() else op
    trunkline_jobs.create_v3(by, rows_a_commit=3)
"""
LEASED = {
    "state": "leased",
    "lease_owner": "w1",
    "lease_until": NOW + timedelta(seconds=30),
    "lease_token": 4,
}
STATES = [
    {"state": "waiting", "visible_at": NOW},
    {"state": "waiting", "visible_at": NOW + timedelta(days=1), "group_key": "call-1", "attempts": 2},
    {**LEASED, "visible_at": NOW + timedelta(seconds=30), "stage_began_at": NOW, "attempts": 1},
    {"state": "done", "checkpoint": {"record": "tenants/t0/calls/1"}, "lease_token": 9},
    {"state": "dead", "buried_at": NOW, "last_error": {"message": "it failed"}, "lease_token": 3},
    {"state": "dead", "buried_at": NOW, "last_error": {"message": "x"}, "tell_at": NOW, "tell_tries": 2},
    {"state": "cancelled", "history": [{"at": NOW.isoformat(), "outcome": "cancelled"}]},
]


def rows():
    """Jobs of three tenants in every state."""
    plain = {column.name: None for column in JOBS.columns} | {
        "queue_class": 0, "shard": 0, "kind": "event", "stage": "transcribe", "attempts": 0, "lease_token": 0,
        "generation": 0, "checkpoint": {}, "history": [], "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return [
        {
            **plain,
            "tenant_id": f"t{n % 3}",
            "job_id": f"j{n * 7919 % 1000:03}",
            "subject": f"event-{n}",
            **state,
        }
        for n, state in enumerate(STATES * 2)
    ]


@pytest.fixture(params=ENGINES)
async def store(request, tmp_path, monkeypatch):
    """Open a store at the first revision, filled; returns what opens it at the last one."""
    package = f"jobs_keyed_{request.param}_{tmp_path.name.replace('-', '_')}"
    versions = tmp_path / package / "versions"
    versions.mkdir(parents=True)
    (tmp_path / package / "__init__.py").write_text("")
    (versions / "0001_jobs.py").write_text(FIRST)
    monkeypatch.syspath_prepend(str(tmp_path))
    spanner = request.param == "spanner"
    url = require_emulator().create_database() if spanner else f"sqlite:///{tmp_path}/jobs.db"

    def upgraded(stop=None):
        (versions / "0002_keyed.py").write_text(SECOND)
        if stop is not None:
            (versions / "stop.txt").write_text(stop)
        else:
            (versions / "stop.txt").unlink(missing_ok=True)
        if spanner:
            migrate(url, package)
        return Database.open(url, METADATA, migrations=package, clock=FakeClock(NOW))

    upgraded.spanner = spanner
    if spanner:
        migrate(url, package)
    async with await Database.open(url, METADATA, migrations=package) as db:
        await db.write(lambda conn: conn.execute(sa.insert(JOBS), rows()))
    yield upgraded
    if spanner:
        require_emulator().drop_database(url)


async def test_every_job_is_there_and_goes_on(store):
    async with await store() as db:
        await same_rows(db)
        queue = Queue(db, JOBS)
        claimed = await queue.run(queue.claim, "w2", 10, 30.0)
        assert {(job.tenant_id, job.job_id) for job in claimed} == {
            (row["tenant_id"], row["job_id"]) for row in rows() if row["visible_at"] == NOW
        }
        [held] = [row for row in rows() if row["state"] == "leased"][:1]
        lease = await queue.run(queue.lease_by_id, held["job_id"], 4)
        await queue.run(queue.complete, lease)
        untold = await db.read(lambda conn: queue.untold(conn, 10))
        assert [(job.state, job.tries) for job in untold] == [(JobState.DEAD, 2)] * 2
        assert await queue.run(queue.revive, untold[0].job_id, tenant_id=untold[0].tenant_id)


async def test_a_migration_that_is_stopped_loses_nothing(store):
    """On SQLite nothing of it happened, on Spanner the next one goes on."""
    for stop in ("create_table 1", "drop_table 1", "create_index 3", "rename_table 1"):
        with pytest.raises(StoreError, match="stopped"):
            async with await store(stop):
                pass
    async with await store() as db:
        await same_rows(db)


async def same_rows(db):
    found = await db.read(lambda conn: conn.execute(sa.select(JOBS)).mappings().all())
    assert sorted(map(told, found)) == sorted(map(told, rows()))
    names = await db.read(lambda conn: sa.inspect(conn).get_table_names())
    assert {name for name in names if name.startswith("jobs")} == {"jobs", "jobs_turns"}


def told(row):
    return json.dumps(dict(row), sort_keys=True, default=str)
