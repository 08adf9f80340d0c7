"""Analyses go when their time has come, and show until when they are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from trunkline_ai.analyses.rows import Analyses, StoredAnalysis
from trunkline_ai.retention import sweep
from trunkline_ai.schema import metadata
from trunkline_runtime.api.paging import Place
from trunkline_store import Database, FakeClock

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


async def test_what_is_past_its_time_goes(tmp_path):
    clock = FakeClock(NOW)
    url = f"sqlite:///{tmp_path}/ai.db"
    async with await Database.open(url, metadata, migrations="trunkline_ai.migrations", clock=clock) as db:
        analyses = Analyses(db)
        for identity, until in (("a1", NOW + DAY), ("a2", NOW + 2 * DAY), ("a3", None)):
            await analyses.add(StoredAnalysis("acme", identity, "c1", 0, "local", {}, NOW, until))
        await sweep(db)
        clock.advance(DAY.total_seconds())
        await sweep(db)
        left, _ = await analyses.page("acme", Place(10, "", ""))
        assert {analysis.analysis_id for analysis in left} == {"a2", "a3"}
        shown = {analysis.analysis_id: analysis.to_proto() for analysis in left}
        assert shown["a2"].expire_time.ToDatetime(UTC) == NOW + 2 * DAY
        assert not shown["a3"].HasField("expire_time")
