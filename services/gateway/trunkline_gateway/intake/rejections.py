"""Requests with a wrong signature: kept off the hot path, bounded per source, where an operator can look at them."""

from __future__ import annotations

import asyncio
import time
import uuid
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import accumulate
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from trunkline.tenant.v1 import tenant_pb2
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.process.periodic import set_aside
from trunkline_store import Database
from trunkline_store.declare import by_index
from trunkline_store.errors import StoreError
from trunkline_store.records.tombstones import buried

from trunkline_gateway.hooks.headers import kept_of
from trunkline_gateway.intake.kept import no_quotas, rejected_bytes
from trunkline_gateway.providers.base import Delivery, Source
from trunkline_gateway.providers.public_urls import target_of
from trunkline_gateway.schema import deleted_tenants, rejections

log = get_logger(__name__)

# What may wait in memory; bodies are kept whole, so that the request can be verified again.
_QUEUE_BYTES = 16 << 20
# What is written at once, and how many times as long as that took nothing more is written.
_PART_BYTES = 1 << 20
_REST = 4.0
# What a row weighs beside its body, its headers and its path.
_ROW_BYTES = 512
# What is kept of each source at most, in bytes.
KEPT_BYTES = 32 << 20
_ALL = 1_000_000
# Far below what one statement may have of values, on either engine.
_DELETED_AT_ONCE = 500


class Bounds(NamedTuple):
    """What is kept of each source at most, in rows and bytes, and what each tenant's plan allows."""

    keep_per_source: int
    keep_bytes: int = KEPT_BYTES
    quotas_of: Callable[[str], tenant_pb2.Quotas] = no_quotas


def rejection_row(
    tenant_id: str,
    source_id: str,
    event_type: str,
    delivery: Delivery,
    headers: dict[str, str],
    reason: str,
) -> dict[str, Any]:
    """Return the row that keeps a rejected delivery; of its headers these (hooks/headers.py cut them)."""
    url = (delivery.target or target_of(delivery.url))[:2048]
    of_headers = sum(len(name) + len(value) for name, value in headers.items())
    return {
        "tenant_id": tenant_id,
        "rejection_id": "r" + uuid.uuid4().hex,
        "source_id": source_id,
        "event_type": event_type,
        "received_at": delivery.received,
        "reason": reason[:400],
        "url": url,
        "headers": headers,
        "body": delivery.body,
        "size_bytes": len(delivery.body),
        "expire_at": None,
        "stored_bytes": len(delivery.body) + of_headers + len(url) + _ROW_BYTES,
    }


class Rejections:
    """A short queue in memory and a loop that writes it: a flood of bad signatures costs the store little.

    What is too much, here and in the store, is taken from the source and the reason that have the most: a flood of
    one kind takes no place of another.
    """

    def __init__(
        self,
        db: Database,
        keep_per_source: int,
        queue: int = 200,
        events_days: int = 0,
        *,
        keep_bytes: int = KEPT_BYTES,
        quotas_of: Callable[[str], tenant_pb2.Quotas] = no_quotas,
    ):
        """Keep of each source at most `keep_per_source` rows and `keep_bytes`, the latest, as long as events."""
        self._db = db
        self._keep = keep_per_source
        self._keep_bytes = keep_bytes
        self._quotas_of = quotas_of
        self._queues: dict[tuple[str, str], deque[dict[str, Any]]] = {}  # by source and reason
        self._most = queue
        self._events_days = events_days
        self._count = self._bytes = 0
        self._wake = asyncio.Event()

    def keep(self, source: Source, event_type: str, delivery: Delivery, reason: str) -> None:
        """Keep one for inspection; when too many wait, the oldest of the most frequent kind is dropped."""
        headers = kept_of(source, delivery.headers)
        row = rejection_row(source.tenant_id, source.source_id, event_type, delivery, headers, reason)
        days = source.retention.events_days or self._events_days
        if days:
            row["expire_at"] = delivery.received + timedelta(days=days)
        self._queues.setdefault((source.source_id, row["reason"]), deque()).append(row)
        self._count += 1
        self._bytes += row["stored_bytes"]
        while self._count > self._most or (self._bytes > _QUEUE_BYTES and self._count > 1):
            self._drop(by_bytes=self._count <= self._most)
        self._wake.set()

    def _drop(self, *, by_bytes: bool) -> None:
        def weight(kind: tuple[str, str]) -> int:
            waiting = self._queues[kind]
            return sum(row["stored_bytes"] for row in waiting) if by_bytes else len(waiting)

        most = max(self._queues, key=weight)
        self._bytes -= self._queues[most].popleft()["stored_bytes"]
        self._count -= 1
        if not self._queues[most]:
            del self._queues[most]

    async def run(self) -> None:
        """Write what waits, for ever, in a part of the store's time: what is answered 401 delays nobody's webhooks."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush(rest=_REST)
            except Exception as error:  # whatever it is, it must not end the gateway
                log.error("rejections_failed", exc_info=error)
                await asyncio.sleep(0.5)

    async def flush(self, rest: float = 0.0) -> None:
        """Write what waits now; what cannot be written is dropped, because it was answered 401 already.

        After each part, rest so many times as long as writing it took; whoever stops then leaves the others waiting.
        """
        bounds = Bounds(self._keep, self._keep_bytes, self._quotas_of)
        while part := self._take():
            began = time.monotonic()
            await self._write(part, bounds)
            if rest:
                await asyncio.sleep((time.monotonic() - began) * rest)

    def _take(self) -> list[dict[str, Any]]:
        """Take what one write holds, the oldest of each kind first and the kinds in turns; none when none waits."""
        part: list[dict[str, Any]] = []
        room = _PART_BYTES
        for kind in list(self._queues):
            waiting = self._queues.pop(kind)
            while waiting and room > 0:
                row = waiting.popleft()
                part.append(row)
                room -= row["stored_bytes"]
                self._count -= 1
                self._bytes -= row["stored_bytes"]
            if waiting:
                self._queues[kind] = waiting  # behind the others
            if room <= 0:
                break
        return part

    async def _write(self, rows: list[dict[str, Any]], bounds: Bounds) -> None:
        try:
            await self._db.write(lambda conn: insert_rejections(conn, rows, bounds))
        except StoreError as error:
            if error.transient or len(rows) == 1:
                log.warning("rejections_not_kept", count=len(rows), error=type(error).__name__)
                return
        else:
            return
        for row in rows:  # one that cannot be written takes none of the others along
            try:
                with set_aside("rejections", tenant=row["tenant_id"], source=row["source_id"]):
                    await self._db.write(lambda conn: insert_rejections(conn, [row], bounds))  # noqa: B023
            except StoreError as error:
                log.warning("rejections_not_kept", count=1, error=type(error).__name__)


def insert_rejections(conn: sa.Connection, rows: list[dict[str, Any]], bounds: Bounds) -> None:
    """Insert the rows and trim each source's and tenant's to what the bounds allow.

    Each source has the same share of its tenant's, each reason the same of its source's, the latest of each.
    None of a deleted tenant is kept.

    What was posted to sources that never were is trimmed as if it were one source's.
    """
    gone = buried(conn, deleted_tenants, {row["tenant_id"] for row in rows})
    rows = [row for row in rows if row["tenant_id"] not in gone]
    if not rows:
        return
    conn.execute(rejections.insert(), rows)
    for tenant_id, source_id in {(row["tenant_id"], row["tenant_id"] and row["source_id"]) for row in rows}:
        mine = [rejections.c.tenant_id == tenant_id]
        if tenant_id:
            mine.append(rejections.c.source_id == source_id)
        _trim(conn, mine, "rejections_by_source" if tenant_id else "", *bounds[:2])
    for tenant_id in {row["tenant_id"] for row in rows}:
        most = bounds.quotas_of(tenant_id).rejections_bytes
        if most and rejected_bytes(conn, tenant_id) > most:
            _trim(conn, [rejections.c.tenant_id == tenant_id], "", _ALL, most)


def _trim(
    conn: sa.Connection, mine: list[sa.ColumnElement[bool]], index: str, keep: int, keep_bytes: int
) -> None:
    """Delete what is more than so many, or more than so many bytes; one at least stays."""
    key = (rejections.c.received_at, rejections.c.rejection_id)
    latest = sa.select(*key, rejections.c.source_id, rejections.c.reason, rejections.c.stored_bytes)
    latest = latest.where(*mine)
    if index:
        latest = by_index(latest, rejections, index)
    rows = conn.execute(latest.order_by(*(column.desc() for column in key))).all()
    if len(rows) <= keep and sum(row.stored_bytes for row in rows) <= keep_bytes:
        return
    stay = _share(_share(rows, keep, lambda _: 1), keep_bytes, lambda row: row.stored_bytes)
    gone = sorted({row.rejection_id for row in rows} - {row.rejection_id for row in stay})
    for start in range(0, len(gone), _DELETED_AT_ONCE):
        some = rejections.c.rejection_id.in_(gone[start : start + _DELETED_AT_ONCE])
        conn.execute(rejections.delete().where(*mine, some))


def _share(rows: Sequence[Any], most: int, weigh: Callable[[Any], int]) -> Sequence[Any]:
    """Return those of `rows`, given latest first, that weigh `most` together: shared by source, then by reason."""
    for kind in (lambda row: (row.source_id, row.reason), lambda row: row.source_id):
        taken: Counter[Any] = Counter()
        shares = []
        for row in rows:
            taken[kind(row)] += weigh(row)
            shares.append(taken[kind(row)])
        rows = [row for _, row in sorted(zip(shares, rows, strict=True), key=itemgetter(0))]
    weights = list(accumulate(weigh(row) for row in rows))
    count = max(1, bisect_right(weights, most))
    return rows[:count]
