"""Acceptance of rejected requests: those that verify now, after a secret was corrected, become receipts, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from trunkline_runtime.errors import FailedPrecondition, NotFound
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter
from trunkline_runtime.process.periodic import place_of
from trunkline_store import Database, insert_appended
from trunkline_store.records.expiry import lives

from trunkline_gateway.events.rows import rejection_conditions
from trunkline_gateway.hooks import encodings
from trunkline_gateway.hooks.encodings import OPENED_BYTES
from trunkline_gateway.hooks.headers import pack
from trunkline_gateway.hooks.sources import SourceMap
from trunkline_gateway.providers.base import Delivery, Malformed, Rejected, Source
from trunkline_gateway.providers.public_urls import public_url
from trunkline_gateway.receipts import VERIFIED
from trunkline_gateway.schema import receipts, rejections

log = get_logger(__name__)

ACCEPTED = counter("trunkline_rejections_accepted_total", "Rejected requests that were accepted later.")

# What is read at once, in rows and in bytes of their bodies; one is always read.
_A_BATCH = 20
READ_BYTES = 8 << 20

_Good = tuple[sa.Row[Any], bytes]  # a rejection that verifies, and its body as it was written


class Acceptance:
    """Looks at rejections again, under the secrets of now."""

    def __init__(
        self,
        db: Database,
        sources: SourceMap,
        admit_soon: Callable[[], None],
        base_url: str = "",
        *,
        read_bytes: int = READ_BYTES,
        opened_bytes: int = OPENED_BYTES,
    ):
        """`admit_soon` is called after receipts were made; `base_url` is what providers post to, as set today.

        So many bytes of bodies are read at once, and so many held opened.
        """
        self._db = db
        self._sources = sources
        self._admit_soon = admit_soon
        self._base_url = base_url
        self._read_bytes = read_bytes
        self._opened_bytes = opened_bytes

    async def accept(self, tenant: str, rejection_id: str) -> str:
        """Make a receipt of one; return the receipt's id. Raises NotFound, FailedPrecondition."""
        name = f"tenants/{tenant}/rejections/{rejection_id}"
        mine = (rejections.c.tenant_id == tenant) & (rejections.c.rejection_id == rejection_id)
        query = sa.select(rejections).where(mine, lives(rejections.c.expire_at, self._db.clock.now()))
        row = await self._db.read(lambda conn: conn.execute(query).one_or_none())
        if row is None:
            raise NotFound(name)
        problem, body = await self._looked_at(row)
        if problem:
            raise FailedPrecondition(problem, reason="STILL_REJECTED")
        if not await self._db.write(lambda conn: _make_receipts(conn, [(row, body)])):
            raise NotFound(name)  # somebody else accepted it a moment ago
        self._accepted(1)
        return _receipt_id(row)

    async def accept_all(self, tenant: str, filter_: str, dry_run: bool) -> tuple[int, int]:
        """Make receipts of those that verify; return how many do and how many do not."""
        shown = lives(rejections.c.expire_at, self._db.clock.now())
        where = [rejections.c.tenant_id == tenant, shown, *rejection_conditions(filter_)]
        accepted = rejected = 0
        after = ""
        while rows := await self._db.scan(lambda conn: _page(conn, where, after, self._read_bytes)):  # noqa: B023 - as below
            after = rows[-1].rejection_id
            good: list[_Good] = []
            opened = 0
            for row in rows:
                problem, body = await self._looked_at(row)
                rejected += bool(problem)
                accepted += dry_run and not problem
                if problem or dry_run:
                    continue
                good.append((row, body))
                opened += len(body)
                if opened >= self._opened_bytes:
                    accepted += await self._make(good)
                    good, opened = [], 0
            accepted += await self._make(good)
        return accepted, rejected

    async def _make(self, good: Sequence[_Good]) -> int:
        if not good:
            return 0
        made = await self._db.write(lambda conn: _make_receipts(conn, good))
        self._accepted(made)
        return made

    async def _looked_at(self, row: sa.Row[Any]) -> tuple[str, bytes]:
        """Return why a rejection stays one, empty when it verifies now, and its body as it was written."""
        source = await self._sources.resolve(row.source_id)
        # A stranger may have sent it, and opening a compressed body, say, takes long enough to delay webhooks.
        return await asyncio.to_thread(_looked_at, row, source, self._base_url)

    def _accepted(self, count: int) -> None:
        ACCEPTED.inc(count)
        self._admit_soon()


def _page(
    conn: sa.Connection, where: Sequence[sa.ColumnElement[bool]], after: str, room: int
) -> Sequence[sa.Row[Any]]:
    """Return the next rejections behind `after` whose bodies have room, one at least."""
    listed = (
        sa.select(rejections.c.rejection_id, sa.func.length(rejections.c.body).label("size"))
        .where(*where, rejections.c.rejection_id > after)
        .order_by(rejections.c.rejection_id)
        .limit(_A_BATCH)
    )
    ids: list[str] = []
    for row in conn.execute(listed):
        room -= row.size
        if room < 0 and ids:
            break
        ids.append(row.rejection_id)
    chosen = sa.select(rejections).where(*where, rejections.c.rejection_id.in_(ids))
    return conn.execute(chosen.order_by(rejections.c.rejection_id)).all()


def _looked_at(row: sa.Row[Any], source: Source | None, base_url: str) -> tuple[str, bytes]:
    if source is None or source.tenant_id != row.tenant_id:
        return "there is no such source", row.body
    delivery = Delivery(row.body, row.headers, public_url(base_url, row.url), row.received_at, row.url)
    if len(row.body) != row.size_bytes:
        return "its body was not stored completely", row.body
    try:
        # The request's age is judged as of when it came: it was kept here, not on the way.
        return "", encodings.verified_as_written(source, delivery).body
    except (Rejected, Malformed, encodings.UnknownEncoding) as still:
        return str(still), row.body
    except Exception as error:  # one that nobody foresaw keeps none of the others from being accepted
        log.error(
            "rejection_unreadable",
            source=row.source_id,
            rejection=row.rejection_id,
            error=type(error).__name__,
            at=place_of(error),
        )
        return f"it could not be verified ({type(error).__name__})", row.body


def _make_receipts(conn: sa.Connection, good: Sequence[_Good]) -> int:
    """Move rejections to the receipts; return how many were still there."""
    moved = 0
    for row, body in good:
        mine = (rejections.c.tenant_id == row.tenant_id) & (rejections.c.rejection_id == row.rejection_id)
        if conn.execute(rejections.delete().where(mine)).rowcount != 1:
            continue
        moved += 1
        receipt = {
            "receipt_id": _receipt_id(row),
            "source_id": row.source_id,
            "tenant_id": row.tenant_id,
            "event_type": row.event_type,
            "received_at": row.received_at,
            "verdict": VERIFIED,
            "content_type": row.headers.get("content-type", "")[:128],
            "url": "",
            "headers": pack(row.headers),
            "body": body,
        }
        insert_appended(conn, receipts, receipt)
    return moved


def _receipt_id(row: sa.Row[Any]) -> str:
    receipt_id: str = row.rejection_id[1:]
    return receipt_id
