"""How long analyses are kept, and the deletion of those that are past their time."""

from __future__ import annotations

from trunkline_runtime.observe import logs, metrics
from trunkline_runtime.process.periodic import set_aside
from trunkline_store.database import Database
from trunkline_store.records.deletion import delete_all, owners
from trunkline_store.records.expiry import overdue

from trunkline_ai.schema import analyses, analysis_marks

log = logs.get_logger(__name__)

_expired = metrics.counter("trunkline_ai_expired_total", "Analyses deleted when their days were over", [])


async def sweep(db: Database) -> None:
    """Delete what is past its time, in small transactions; on Spanner the table's ROW DELETION POLICY does."""
    if db.features.deletes_expired:
        return
    now, removed = db.clock.now(), 0
    async for tenant in owners(db, analyses):
        late = overdue(analyses, tenant, now)
        with set_aside("retention", tenant=tenant, of="analyses"):
            await delete_all(db, analysis_marks, overdue(analysis_marks, tenant, now))
            removed += await delete_all(db, analyses, late)
    if removed:
        _expired.inc(removed)
        log.info("expired_deleted", analyses=removed)
