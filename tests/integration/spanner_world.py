"""A gateway whose store is on Spanner, as the tests of the real processes see it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import sqlalchemy as sa
from trunkline_cli.suite import web
from trunkline_gateway import schema
from trunkline_store import Database

from tests.e2e.conftest import World as AnyWorld
from tests.e2e.posting import Told

MIGRATIONS = "trunkline_gateway.migrations"


class World(AnyWorld):
    """Gateway and tenant service, the former on Spanner."""

    url: str

    def metric(self, name: str) -> float:
        text = web.get(f"{self.suite.metrics_url()}/metrics").text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    def stored(self) -> list[tuple[str, str]]:
        """Receipts with their events, as the database has them."""
        links = schema.receipts.join(
            schema.event_receipts, schema.receipts.c.seq == schema.event_receipts.c.seq
        )
        query = sa.select(schema.receipts.c.receipt_id, schema.event_receipts.c.event_id).select_from(links)

        async def read() -> list[Any]:
            async with await Database.open(self.url, schema.metadata, migrations=MIGRATIONS) as db:
                return list(await db.read(lambda conn: conn.execute(query).all()))

        return [tuple(row) for row in asyncio.run(read())]

    def assert_each_is_one_event(self, told: Told) -> None:
        assert told.errors == told.refused == []
        wanted = set(told.receipts)

        def admitted() -> list[tuple[str, str]] | None:
            mine = [row for row in self.stored() if row[0] in wanted]
            return mine if {receipt for receipt, _ in mine} == wanted else None

        self.wait(lambda: self.metric("trunkline_spool_rows") == 0, "an empty spool")
        self.wait(admitted, f"{len(wanted)} receipts to be admitted")
        time.sleep(0.5)  # one drained twice would be admitted now
        mine = admitted()
        assert mine is not None
        assert len(mine) == len(wanted) == len({event for _, event in mine})
