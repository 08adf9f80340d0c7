"""A receipt: the columns of one delivery as it came, by name, for who commits it, spools it, reads it or decides."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class NewReceipt(NamedTuple):
    """A receipt on its way to the store: a row of `schema.receipts` as its appender takes it, without a number."""

    receipt_id: str
    source_id: str
    tenant_id: str
    """Empty while unverified."""
    event_type: str
    received_at: datetime
    verdict: int
    """One of hooks/verdicts.py."""
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
