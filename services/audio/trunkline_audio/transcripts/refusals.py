"""What engines refuse for good, kept for a day, so that a provider is not asked about the same bytes all day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_runtime.engines.base import EngineError
from trunkline_store.database import Database
from trunkline_store.hot import Hot
from trunkline_store.inserts import insert_if_absent
from trunkline_store.records.deletion import delete_keys
from trunkline_store.records.expiry import is_over

from trunkline_audio.schema import refusals

KEPT = timedelta(days=1)
MOST = 10_000
"""Of a tenant. Of further ones the engine is asked again."""
_KEY = ["tenant_id", "refusal_id"]
_MESSAGE_MOST = 500
_KNOWN = Hot(
    sa.select(refusals).where(
        refusals.c.tenant_id == sa.bindparam("tenant"),
        refusals.c.refusal_id.in_(sa.bindparam("ids", expanding=True)),
    )
)


class Refusals:
    """The refusals of all tenants; every call names one tenant. One whose time has come is not there any more."""

    def __init__(self, db: Database, most: int = MOST) -> None:
        self._db = db
        self._most = most

    async def known(self, tenant: str, ids: Mapping[str, str]) -> dict[str, EngineError]:
        """Return the refusals that are kept, under the names that `ids` gives them."""
        now = self._db.clock.now()
        asked = {"tenant": tenant, "ids": list(ids.values())}
        rows = await self._db.peek(lambda conn: _KNOWN.all(conn, asked))
        found = {row["refusal_id"]: row for row in rows if not is_over(row["expire_at"], now)}
        return {
            name: EngineError(row["reason"], row["message"], transient=False, of_content=row["of_content"])
            for name, refusal in ids.items()
            if (row := found.get(refusal)) is not None
        }

    async def keep(self, tenant: str, refusal: str, error: EngineError) -> None:
        """Keep a refusal for a day, unless as many as a tenant may have are kept."""
        values = {
            "tenant_id": tenant,
            "refusal_id": refusal,
            "reason": error.reason[:64],
            "message": str(error)[:_MESSAGE_MOST],
            "of_content": error.of_content,
            "expire_at": self._db.clock.now() + KEPT,
        }

        def work(conn: Connection) -> None:
            mine = sa.select(refusals.c.refusal_id).where(refusals.c.tenant_id == tenant).limit(self._most)
            kept = conn.execute(sa.select(sa.func.count()).select_from(mine.subquery())).scalar_one()
            if kept < self._most and not insert_if_absent(conn, refusals, values, _KEY):
                delete_keys(conn, refusals, [(tenant, refusal)])  # one whose time has come
                conn.execute(refusals.insert(), values)

        await self._db.write(work)
