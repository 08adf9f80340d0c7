"""Receipts that could not be written as events: an erased call's are found by what is in them, within a bound."""

from datetime import UTC, datetime

from trunkline_gateway import schema
from trunkline_gateway.events.call_deletion import delete_set_aside
from trunkline_store import Database

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CALL = "CAL-0123456789"


async def keep(db, number, body, tenant="acme", url="", size=None):
    """Keep a receipt that admission set aside; with another `size` its body is a rejection's."""
    receipt = {
        "seq": number, "receipt_id": f"rcp-{number:04}", "source_id": "s1", "tenant_id": tenant,
        "event_type": "post_call", "received_at": NOW, "verdict": 1, "content_type": "", "url": url,
        "headers": b"", "body": body,
    }  # fmt: skip
    left = {
        "seq": number, "tenant_id": tenant, "receipt_id": f"rcp-{number:04}",
        "size_bytes": len(body) if size is None else size, "expire_at": None,
    }  # fmt: skip

    def work(conn):
        conn.execute(schema.receipts.insert(), receipt)
        conn.execute(schema.eventless_receipts.insert(), left)

    await db.write(work)


async def left(db):
    tables = (schema.receipts, schema.eventless_receipts)
    found = [set(await db.read(lambda conn: conn.execute(t.select()).scalars().all())) for t in tables]  # noqa: B023
    assert found[0] == found[1]
    return found[0]


async def test_those_that_name_the_call_go_and_no_others(tmp_path):
    url = f"sqlite:///{tmp_path}/gateway.db"
    async with await Database.open(url, schema.metadata, migrations="trunkline_gateway.migrations") as db:
        for number in range(1, 46):  # more than are looked at in a step
            await keep(db, number, b'{"id": "CAL-another"}')
        await keep(db, 46, f'{{"id": "{CALL}"}}'.encode())
        await keep(db, 47, b"-", url=f"/hooks/s1/post_call?id={CALL}")
        await keep(db, 48, f'{{"id": "{CALL}"}}'.encode(), tenant="other")
        assert await delete_set_aside(db, "acme", [CALL], most=20) == 0, "it is bounded"
        assert await delete_set_aside(db, "acme", ["CAL"]) == 0, "a short id may be anything"
        assert await delete_set_aside(db, "acme", []) == 0
        assert await delete_set_aside(db, "acme", [CALL]) == 2
        assert await left(db) == {*range(1, 46), 48}
        assert await delete_set_aside(db, "acme", [CALL]) == 0
