"""A queue in a file of its own, with a clock that moves when told."""

import pytest
import sqlalchemy as sa
from trunkline_jobs import Queue, jobs_table
from trunkline_store import Database, FakeClock

METADATA = sa.MetaData()
JOBS = jobs_table(METADATA)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def db(tmp_path, clock):
    async with await Database.open(f"sqlite:///{tmp_path}/jobs.db", METADATA, clock=clock) as database:
        yield database


@pytest.fixture
def queue(db):
    return Queue(db, JOBS)


@pytest.fixture
def jobs():
    return JOBS
