"""What sweeps and deletes tenants runs on Spanner as it does on SQLite."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from trunkline_ai.analyses import Analyses, StoredAnalysis
from trunkline_ai.retention import sweep
from trunkline_ai.tables import analyses, deleted_tenants, metadata
from trunkline_runtime.errors import NotFound
from trunkline_store import Database
from trunkline_store.deletion import delete_all
from trunkline_store.migrations import migrate
from trunkline_store.tombstones import buried, bury

from .spanner_emulator import spanner_url  # noqa: F401 - a fixture

NOW = datetime.now(UTC)


async def test_rows_are_swept_and_purged_and_tombstones_refuse(spanner_url):  # noqa: F811
    migrate(spanner_url, "trunkline_ai.migrations")
    async with await Database.open(spanner_url, metadata, migrations="trunkline_ai.migrations") as db:
        kept = Analyses(db)
        for n in range(7):
            until = NOW - timedelta(days=1) if n < 3 else None
            await kept.add(StoredAnalysis("acme", f"a{n}", "c1", 0, "local", {}, NOW, until))
        await sweep(db)
        assert len(await kept.page("acme", None, 10)) == 4
        assert await db.write(lambda conn: bury(conn, deleted_tenants, "acme", NOW))
        assert not await db.write(lambda conn: bury(conn, deleted_tenants, "acme", NOW))
        assert await db.read(lambda conn: buried(conn, deleted_tenants, ["acme", "other"])) == {"acme"}
        assert await delete_all(db, analyses, analyses.c.tenant_id == "acme", a_transaction=3) == 4
        with pytest.raises(NotFound):
            await kept.add(StoredAnalysis("acme", "late", "c1", 0, "local", {}, NOW))
        count = sa.select(sa.func.count()).select_from(analyses)
        assert await db.read(lambda conn: conn.execute(count).scalar_one()) == 0
