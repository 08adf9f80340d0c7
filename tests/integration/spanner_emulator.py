"""The one Spanner emulator of a test session, and databases on it; conftests import the fixtures they use."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from trunkline_store import Database
from trunkline_store.migrations import migrate
from trunkline_store.spanner.emulator import Emulator, emulator_binary


def missing() -> str | None:
    """What the tests on Spanner lack here; None when they can run."""
    if shutil.which("gcloud") is None:
        return "gcloud is not on the PATH, so there is no Spanner emulator"
    if emulator_binary() is None:
        return "the Google Cloud CLI lacks its component cloud-spanner-emulator"
    if any(not _installed(name) for name in ("google.cloud.spanner_v1", "google.cloud.sqlalchemy_spanner")):
        return "google-cloud-spanner and sqlalchemy-spanner are not installed: trunkline-store[spanner]"
    return None


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@functools.cache
def shared_emulator() -> Emulator:
    """Start the session's emulator when first asked."""
    emulator = Emulator()
    emulator.start()
    atexit.register(emulator.stop)
    return emulator


def require_emulator() -> Emulator:
    """The emulator; without it a visible skip on a laptop, a failure in CI where gcloud is on the PATH."""
    reason = missing()
    if reason is None:
        return shared_emulator()
    if os.environ.get("CI") == "true" and shutil.which("gcloud") is not None:
        pytest.fail(f"CI must run the tests on Spanner: {reason}")
    pytest.skip(reason)


async def made_by_revisions(url: str, package: str, metadata: sa.MetaData) -> str:
    """Migrate an empty database, see that it is what the tables declare, and return its DDL in one line."""
    emulator = require_emulator()
    migrate(url, package)
    declared = emulator.create_database()
    try:
        async with await Database.open(declared, metadata) as db:
            await db.check()
        made = emulator.schema_of(declared)
        assert emulator.schema_of(url) == made
    finally:
        emulator.drop_database(declared)
    return " ".join(" ".join(made).split())


_EMPTYING_SECONDS = 5.0
_MOST_TESTS = 20


class Emptying:
    """What deletes the rows of one database by a commit, which costs a hundredth of a statement for each table."""

    def __init__(self, url: str) -> None:
        # Imported late: without the packages of Spanner its tests are skipped.
        from google.api_core.exceptions import Aborted, DeadlineExceeded
        from google.cloud.spanner_v1 import SpannerClient, types
        from google.cloud.spanner_v1.services.spanner.transports.grpc import SpannerGrpcTransport

        self._types: Any = types
        self._refused = (Aborted, DeadlineExceeded)
        channel = grpc.insecure_channel(require_emulator().address)
        self._client = SpannerClient(transport=SpannerGrpcTransport(channel=channel))
        database = url.partition(":///")[2]
        self._session = self._client.create_session(database=database, timeout=20).name

    def empty(self, metadata: sa.MetaData) -> bool:
        """Delete every row of the tables; False when something that a test has left holds them."""
        types = self._types
        everything = types.KeySet(all_=True)
        deletions = [
            types.Mutation(delete=types.Mutation.Delete(table=table.name, key_set=everything))
            for table in reversed(metadata.sorted_tables)
        ]
        request = types.CommitRequest(
            session=self._session,
            single_use_transaction=types.TransactionOptions(read_write=types.TransactionOptions.ReadWrite()),
            mutations=deletions,
        )
        end = time.monotonic() + _EMPTYING_SECONDS
        while time.monotonic() < end:
            try:
                self._client.commit(request=request, timeout=_EMPTYING_SECONDS, retry=None)
            except self._refused:  # another transaction, of a test that has just ended, may still be there
                time.sleep(0.01)
            else:
                return True
        return False


emptying = functools.cache(Emptying)
# Databases that no test holds, by the package of their revisions: to migrate one takes longer than most tests.
_free: defaultdict[str, list[str]] = defaultdict(list)
_made: dict[sa.MetaData, tuple[str, int]] = {}


@contextmanager
def migrated_database(migrations: str, metadata: sa.MetaData) -> Iterator[str]:
    """The URL of an empty database at the head of a package's revisions; nobody else has it meanwhile."""
    free = _free[migrations]
    url = free.pop() if free else None
    if url is None or not emptying(url).empty(metadata):
        url = require_emulator().create_database()
        migrate(url, migrations)
    try:
        yield url
    finally:
        free.append(url)


async def made_database(metadata: sa.MetaData) -> str:
    """The URL of the session's database of these tables, empty.

    After some tests there is another one: the emulator keeps deleted rows for an hour, and queries pass over them.
    """
    url, tests = _made.pop(metadata, ("", 0))
    if tests == _MOST_TESTS or not (url and emptying(url).empty(metadata)):
        if url:
            require_emulator().drop_database(url)
        url, tests = require_emulator().create_database(), 0
        async with await Database.open(url, metadata):
            pass
    _made[metadata] = url, tests + 1
    return url


@pytest.fixture
def spanner_url():
    """The URL of an empty database, dropped afterwards."""
    emulator = require_emulator()
    url = emulator.create_database()
    yield url
    emulator.drop_database(url)
