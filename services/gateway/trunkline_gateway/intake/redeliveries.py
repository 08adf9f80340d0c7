"""A redelivery does not store its body again: its receipt keeps how large it was, and its event names the first.

A body that differs from the first one's stays: it was signed and says something else, however its event is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import sqlalchemy as sa
from trunkline_store.hot import Hot

from trunkline_gateway.receipts import Receipt
from trunkline_gateway.schema import events, receipts

EventKey = tuple[str, str]  # tenant and event

_EVENTS_A_READ = 8  # whole bodies are read
_FIRST = Hot(
    sa.select(events.c.tenant_id, events.c.event_id, events.c.first_seq, receipts.c.body)
    .join(receipts, receipts.c.seq == events.c.first_seq)
    .where(
        events.c.tenant_id.in_(sa.bindparam("tenants", expanding=True)),
        events.c.event_id.in_(sa.bindparam("events", expanding=True)),
    )
)


def drop_repeated(
    conn: sa.Connection,
    links: Iterable[tuple[EventKey, int]],
    new: Collection[EventKey],
    receipts_by_seq: Mapping[int, Receipt],
) -> dict[int, int]:
    """Drop the bodies of receipts that repeat their event's first; the sizes of those, by the receipt's number.

    `links` are events and receipts that tell of them, `new` the events that the batch made.
    """
    links = list(links)
    if len(new) == len(links):
        return {}  # each is the first of its event
    times = Counter(event for event, _ in links)
    repeated = [(event, seq) for event, seq in links if event not in new or times[event] > 1]
    asked = sorted({event for event, _ in repeated})
    dropped: dict[int, int] = {}
    for start in range(0, len(asked), _EVENTS_A_READ):
        some = asked[start : start + _EVENTS_A_READ]
        about = {"tenants": list({tenant for tenant, _ in some}), "events": [event for _, event in some]}
        first = {(row["tenant_id"], row["event_id"]): row for row in _FIRST.all(conn, about)}
        for event, seq in repeated:
            row = first.get(event)
            receipt = receipts_by_seq.get(seq)
            body = receipt.body if receipt else b""
            if body and row is not None and row["first_seq"] != seq and row["body"] == body:
                dropped[seq] = len(body)
    empty_bodies(conn, dropped)
    return dropped


def empty_bodies(conn: sa.Connection, seqs: Collection[int]) -> None:
    """Drop the bodies of receipts that are kept elsewhere."""
    if seqs:
        conn.execute(receipts.update().where(receipts.c.seq.in_(list(seqs))).values(body=b""))
