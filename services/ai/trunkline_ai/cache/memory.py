"""Answers in this process, bounded by bytes and time; the ones that were asked for last stay longest."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from cachetools import TLRUCache

from trunkline_ai.cache.answers import Answer

MOST_CALLS = 1_000
"""How many calls one answer may serve; then it is made again, so that each is known when it is erased."""
_BESIDE = 850
"""Bytes that an entry takes beside its answer and its calls, measured."""
_OF_A_CALL = 150
"""Bytes that a call of an entry takes beside the letters of its name, measured."""


@dataclass(slots=True)
class _Entry:
    packed: bytes
    until: float
    tenant: str
    calls: set[str]
    of_calls: int = 0
    """Bytes that the calls take."""

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.packed) + self.of_calls + _BESIDE


class MemoryAnswers:
    """Keeps `most_bytes` of answers for `seconds` each. `clock` is of Unix seconds."""

    def __init__(self, most_bytes: int, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: TLRUCache[bytes, _Entry] = TLRUCache(
            most_bytes,
            lambda _key, entry, _now: entry.until,
            clock,
            lambda entry: entry.size,
        )

    @property
    def size(self) -> int:
        """How much they take, about."""
        return int(self._entries.currsize)

    def get(self, key: bytes) -> Answer | None:
        """Return what is kept under a key."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if len(entry.calls) >= MOST_CALLS:
            del self._entries[key]
            return None
        return Answer.unpacked(entry.packed)

    def put(self, key: bytes, tenant: str, answer: Answer) -> None:
        """Keep an answer, for what is left of its time."""
        entry = _Entry(answer.packed(), answer.made_at + self._seconds, tenant, set())
        self._keep(key, entry)

    def serves(self, key: bytes, call: str) -> bool:
        """Note that an answer served a call; False if that was known."""
        entry = self._entries.get(key)
        if entry is None:
            return True
        if call in entry.calls:
            return False
        del self._entries[key]
        entry.calls.add(call)
        entry.of_calls += len(call) + _OF_A_CALL
        self._keep(key, entry)  # with its new size
        return True

    def _keep(self, key: bytes, entry: _Entry) -> None:
        if entry.size <= self._entries.maxsize and entry.until > self._clock():
            self._entries[key] = entry

    def drop(self, key: bytes) -> None:
        """Let go of one."""
        self._entries.pop(key, None)

    def forget(self, tenant: str, calls: Collection[str] | None) -> list[bytes]:
        """Let go of what served these calls of a tenant, or of all that is the tenant's; the keys of it."""
        erased = None if calls is None else set(calls)
        gone = [
            key
            for key, entry in self._entries.items()
            if entry.tenant == tenant and (erased is None or entry.calls & erased)
        ]
        for key in gone:
            self.drop(key)
        return gone

    def expire(self) -> None:
        """Let go of what is over."""
        self._entries.expire()
