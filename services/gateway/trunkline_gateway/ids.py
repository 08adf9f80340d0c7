"""Ids of events and calls' groups: hashes of length-prefixed fields, so that no two field lists can collide."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from functools import cache, lru_cache
from hashlib import sha256

from trunkline_runtime.digests import laid

# What the ids of one source's events begin with: the same for each of them.
_begun = lru_cache(maxsize=4096)(laid)


def digest_id(prefix: str, fields: Iterable[str]) -> str:
    """Return `prefix` and 30 hexadecimal digits: 120 bits of SHA-256 over the fields, each led by its length."""
    return prefix + sha256(laid(*fields)).hexdigest()[:30]


def event_id(source_id: str, event_type: str, dedup_fields: Iterable[str]) -> str:
    """Return the id that every delivery of one event shares. A source's id is unique in the suite, so this is too."""
    return "e" + sha256(_begun(source_id, event_type) + laid(*dedup_fields)).hexdigest()[:30]


def group_key(tenant_id: str, source_id: str, alias: str) -> str:
    """Return what the jobs of one call share, so that they run one after another."""
    return "g" + sha256(_begun(tenant_id, source_id) + laid(alias)).hexdigest()[:30]


_COUNT = itertools.count()


@cache
def _process() -> str:
    """Return what this process's receipts begin with, drawn for the first: one that is forked before it has its own."""
    return os.urandom(10).hex()


SAMPLED = "8000"
"""Where a receipt's trace is exported, these digits of its id come before the last eight, and 0000 otherwise."""
_SAMPLED = int(SAMPLED, 16) << 32


def receipt_id(sampled: bool = False) -> str:
    """Return a new receipt's id, 32 hexadecimal digits: 80 random bits of this process and a count.

    It is the id of the receipt's trace too, and says whether that is exported (traces.py).
    """
    return f"{_process()}{next(_COUNT) | _SAMPLED if sampled else next(_COUNT):012x}"
