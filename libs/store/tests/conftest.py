"""A database of the conformance suite's tables, in a file of its own."""

import pytest
from trunkline_store import Database
from trunkline_store.testing.conformance import METADATA


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
async def db(url):
    async with await Database.open(url, METADATA) as database:
        yield database
