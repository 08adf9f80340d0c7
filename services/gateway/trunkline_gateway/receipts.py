"""The columns of a receipt, named in one place: as it is committed, and as admission reads it back."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

# What a receipt weighs beside its body, its headers and its path.
ROW_BYTES = 512


def weight_of(url: str, headers: bytes, body: bytes) -> int:
    """Return the bytes that a receipt counts for."""
    return len(body) + len(headers) + len(url) + ROW_BYTES


class NewReceipt(NamedTuple):
    """A row of `schema.receipts` that has no number yet, in the appender's order."""

    receipt_id: str
    source_id: str
    tenant_id: str  # empty while unverified
    event_type: str
    received_at: datetime
    verdict: int
    content_type: str
    url: str
    headers: bytes
    body: bytes


class Receipt(NamedTuple):
    """A row of `schema.receipts` with its number, without an engine's mark."""

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

    @property
    def weight(self) -> int:
        """Bytes that it counts for."""
        return weight_of(self.url, self.headers, self.body)
