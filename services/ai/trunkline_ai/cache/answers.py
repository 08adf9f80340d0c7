"""A model's answer as it is kept: what it says, who gave it, when, and what it cost; packed into bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

import zstandard
from trunkline_runtime.engines.base import EngineUsage

from trunkline_ai.engines.base import Completion

MOST_BYTES = 256 * 1024
"""Of an answer, unpacked. A longer one is not kept."""
_PLAIN, _ZSTD = b"\x00", b"\x01"
_LEAST_PRESSED = 1024
_LEVEL = 3


class BrokenAnswer(Exception):
    """Bytes that are no packed answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that keeps to the schema that was asked for."""

    engine: str
    text: str
    made_at: float
    """When the model gave it, in Unix seconds: wherever it is kept, it ends so many hours later."""
    cost_micros: int = 0
    """What it cost the first time."""

    def given(self, similarity: float = 0.0) -> Completion:
        """Return it as the answer to another question, which costs nothing; `similarity` below 1 of a like one."""
        return Completion(
            self.engine, self.text, usage=EngineUsage(cached=True, reused_similarity=similarity)
        )

    def packed(self) -> bytes:
        """Return it as bytes; what is over 1 KB is compressed."""
        body = json.dumps([self.engine, self.text, self.made_at, self.cost_micros]).encode()
        if len(body) <= _LEAST_PRESSED:
            return _PLAIN + body
        return _ZSTD + zstandard.ZstdCompressor(level=_LEVEL).compress(body)

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        """Read `packed` bytes. Raises BrokenAnswer for others, and for more than an answer unpacks to."""
        body = data[1:]
        if data[:1] == _ZSTD:
            body = _unpressed(body)
        elif data[:1] != _PLAIN:
            raise BrokenAnswer
        try:
            value: Any = json.loads(body)
        except (ValueError, RecursionError):
            raise BrokenAnswer from None
        if not isinstance(value, list) or [type(part) for part in value] != [str, str, float, int]:
            raise BrokenAnswer
        return cls(*value)


def _unpressed(body: bytes) -> bytes:
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= 2 * MOST_BYTES:  # unknown is -1; JSON may spell a letter in several bytes
            raise BrokenAnswer
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=2 * MOST_BYTES)
    except zstandard.ZstdError:
        raise BrokenAnswer from None
