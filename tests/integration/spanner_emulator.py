"""The one Spanner emulator of a test session, and databases on it; conftests import the fixtures they use."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import shutil

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


@pytest.fixture
def spanner_url():
    """The URL of an empty database, dropped afterwards."""
    emulator = require_emulator()
    url = emulator.create_database()
    yield url
    emulator.drop_database(url)
