"""A receipt: the columns of one delivery as it came, by name, for who commits it, spools it, reads it or decides."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

from trunkline.gateway.v1 import event_pb2

VERIFIED = int(event_pb2.VERDICT_VERIFIED)
UNVERIFIED = int(event_pb2.VERDICT_UNVERIFIED)
"""How a receipt's signature was found, as stored in receipts."""
_FRESH_BYTES = 16 << 20
_FRESH_EACH = 1_024  # about what Python's own objects of a receipt take
_NOTES_MOST = 200_000  # of about 150 bytes each


class NewReceipt(NamedTuple):
    """A receipt on its way to the store: a row of `schema.receipts` as its appender takes it, without a number."""

    receipt_id: str
    source_id: str
    tenant_id: str
    """Empty while unverified."""
    event_type: str
    received_at: datetime
    verdict: int
    """VERIFIED or UNVERIFIED."""
    content_type: str
    url: str
    """The path and query as they came; empty once verified."""
    headers: bytes
    """See hooks/headers.py."""
    body: bytes


class Receipt(NamedTuple):
    """A receipt as the store holds it, but for an engine's mark."""

    seq: int
    receipt_id: str
    source_id: str
    tenant_id: str
    event_type: str
    received_at: datetime
    verdict: int
    content_type: str
    url: str
    headers: bytes
    body: bytes


Note = tuple[int, str, int, int]
"""A receipt's number, source, verdict, and size: the bytes of its body and headers."""

_SOURCE, _VERDICT, _HEADERS, _BODY = map(
    NewReceipt._fields.index, ("source_id", "verdict", "headers", "body")
)


class Fresh:
    """Receipts that were committed a moment ago, by their numbers: admission need not read them back.

    A shortcut and never what decides: only so many bytes are kept, of those that came first, and a restart has none.
    Of many more there is a note, so that whose turn it is can be told without reading.
    """

    def __init__(self, most_bytes: int = _FRESH_BYTES) -> None:
        """Keep at most so many bytes."""
        self._most = most_bytes
        self._rows: dict[int, Receipt] = {}  # in the order of their numbers, as they are committed
        self._bytes = 0
        self._notes: deque[Note] = deque()

    def stored(self, first: int, rows: Sequence[tuple[Any, ...]]) -> None:
        """Take rows of `NewReceipt` that are durable, the first of which has that number, the next the next."""
        if len(self._notes) < _NOTES_MOST:
            self._notes.extend(
                [
                    (seq, row[_SOURCE], row[_VERDICT], len(row[_BODY]) + len(row[_HEADERS]))
                    for seq, row in enumerate(rows, first)
                ]
            )
        for seq, row in enumerate(rows, first):
            if self._bytes >= self._most:
                return
            receipt = Receipt(seq, *row)
            self._rows[seq] = receipt
            self._bytes += len(receipt.body) + _FRESH_EACH

    def get(self, seq: int) -> Receipt | None:
        """Return a receipt that is kept here. On any thread."""
        return self._rows.get(seq)

    def noted(self, after: int, upto: int) -> Iterator[Note]:
        """Return the notes of those that follow `after` without a gap, and drop them; on one thread at a time."""
        notes = self._notes
        while notes and notes[0][0] <= after:
            notes.popleft()
        while notes and after < upto and notes[0][0] == after + 1:
            after += 1
            yield notes.popleft()

    def forget(self, upto: int) -> None:
        """Drop those up to that number; on the thread that `stored` is called on."""
        for seq in list(takewhile(lambda seq: seq <= upto, self._rows)):
            self._bytes -= len(self._rows.pop(seq).body) + _FRESH_EACH
