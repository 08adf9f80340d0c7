"""A queue on each engine, in a database that is empty, with a clock that moves when told."""

import pytest
import sqlalchemy as sa
from trunkline_jobs import Queue, jobs_table
from trunkline_jobs.rows import to_job
from trunkline_store import Database, FakeClock
from trunkline_store.engines import ENGINES

from tests.integration.spanner_emulator import made_database

METADATA = sa.MetaData()
JOBS = jobs_table(METADATA)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture
def only_sqlite(engine):
    """For what looks inside SQLite itself; asked for before `db`, so that nothing is opened in vain."""
    if engine != "sqlite":
        pytest.skip("it looks at SQLite's own plans and steps")


@pytest.fixture
def metadata():
    return METADATA


@pytest.fixture
async def url(engine, tmp_path, metadata):
    """The URL of a database without rows; one on the emulator has the tables already."""
    return f"sqlite:///{tmp_path}/jobs.db" if engine == "sqlite" else await made_database(metadata)


@pytest.fixture
async def db(engine, url, clock, metadata):
    # On the emulator the tables are there, and to ask it which are takes as long as a test.
    tables = metadata if engine == "sqlite" else sa.MetaData()
    async with await Database.open(url, tables, clock=clock) as database:
        yield database


@pytest.fixture
def queue(db):
    return Queue(db, JOBS)


@pytest.fixture
def stored(db):
    """Read a job as it is kept; None when it is not there."""

    async def find(job_id="a"):
        found = sa.select(JOBS).where(JOBS.c.job_id == job_id)
        row = await db.read(lambda conn: conn.execute(found).mappings().first())
        return None if row is None else to_job(dict(row))

    return find


@pytest.fixture
def jobs():
    return JOBS
