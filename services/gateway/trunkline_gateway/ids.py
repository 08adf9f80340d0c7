"""Ids of events and calls' groups: hashes of length-prefixed fields, so that no two field lists can collide."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable


def digest_id(prefix: str, fields: Iterable[str]) -> str:
    """Return `prefix` and 30 hexadecimal digits: 120 bits of SHA-256 over the fields, each led by its length."""
    parts: list[bytes] = []
    for value in fields:
        raw = value.encode("utf-8", "surrogatepass")
        parts += (len(raw).to_bytes(4, "big"), raw)
    return prefix + hashlib.sha256(b"".join(parts)).hexdigest()[:30]


def event_id(source_id: str, event_type: str, dedup_fields: Iterable[str]) -> str:
    """Return the id that every delivery of one event shares. A source's id is unique in the suite, so this is too."""
    return digest_id("e", (source_id, event_type, *dedup_fields))


def group_key(tenant_id: str, source_id: str, alias: str) -> str:
    """Return what the jobs of one call share, so that they run one after another."""
    return digest_id("g", (tenant_id, source_id, alias))


_PROCESS = os.urandom(10).hex()
_COUNT = itertools.count()


def receipt_id() -> str:
    """Return a new receipt's id, 32 hexadecimal digits: 80 random bits of this process and a count."""
    return f"{_PROCESS}{next(_COUNT):012x}"
