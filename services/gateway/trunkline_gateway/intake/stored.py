"""What the store holds of a few receipts whose commit was never confirmed."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from trunkline_store import Database
from trunkline_store.declare import derived_key

from trunkline_gateway.schema import receipts

_ROWS_A_READ = 2_000
_IDS_A_READ = 500


class Stored:
    """Looks receipts up by id, though nothing on them is unique and no index leads there (decision 3).

    A receipt that was handed to the store after its last number was `floor` stands behind that number or nowhere,
    so on SQLite only what came since is read. On Spanner the number derives from the id.
    """

    def __init__(self, db: Database):
        """Nothing is read yet; a floor of 0 is right, and slow."""
        self._db = db
        self._in_order = db.features.numbers_in_order
        self.floor = 0

    async def raise_floor(self) -> None:
        """Read the last number. Raises StoreError."""
        if self._in_order:
            query = sa.select(sa.func.coalesce(sa.func.max(receipts.c.seq), 0))
            self.floor = await self._db.read(lambda conn: conn.execute(query).scalar_one())

    async def among(self, floors: Mapping[str, int]) -> set[str]:
        """Return those of these ids that are in the store, given the floor of each. Raises StoreError."""
        if not floors:
            return set()
        return await (self._behind(floors) if self._in_order else self._by_id(floors))

    async def _behind(self, floors: Mapping[str, int]) -> set[str]:
        found: set[str] = set()
        after = min(floors.values())
        while True:
            query = (
                sa.select(receipts.c.seq, receipts.c.receipt_id)
                .where(receipts.c.seq > after)
                .order_by(receipts.c.seq)
                .limit(_ROWS_A_READ)
            )
            rows = await self._db.read(lambda conn: conn.execute(query).all())  # noqa: B023 - awaited right here
            found.update(row.receipt_id for row in rows if row.receipt_id in floors)
            if len(rows) < _ROWS_A_READ:
                return found
            after = rows[-1].seq

    async def _by_id(self, floors: Mapping[str, int]) -> set[str]:
        ids = list(floors)
        found: set[str] = set()
        for start in range(0, len(ids), _IDS_A_READ):
            keys = [derived_key(receipt_id) for receipt_id in ids[start : start + _IDS_A_READ]]
            query = sa.select(receipts.c.receipt_id).where(receipts.c.seq.in_(keys))
            there = await self._db.read(lambda conn: conn.execute(query).scalars().all())  # noqa: B023
            found.update(floors.keys() & there)
        return found
