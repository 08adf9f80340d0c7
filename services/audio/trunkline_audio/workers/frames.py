"""Messages between the service and its worker processes: a length and one JSON object.

JSON, not pickle: a worker that was taken over by hostile media can lie, not run code in the service. Sound
never travels here; it lies in scratch files that messages name.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any, BinaryIO

Message = dict[str, Any]

_LENGTH = struct.Struct(">I")
MAX_BYTES = 64 * 1024 * 1024


def encode(message: Message) -> bytes:
    """A message as bytes on the wire."""
    body = json.dumps(message, separators=(",", ":"), ensure_ascii=True).encode()
    return _LENGTH.pack(len(body)) + body


def read(stream: BinaryIO) -> Message | None:
    """Reads one message; None when the other side is gone or what it sent is cut short or no message."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MAX_BYTES:
        return None
    return _decode(stream.read(length), length)


async def read_async(stream: asyncio.StreamReader) -> Message | None:
    """As `read`, without blocking the event loop."""
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        if length > MAX_BYTES:
            return None
        return _decode(await stream.readexactly(length), length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _decode(body: bytes, length: int) -> Message | None:
    if len(body) < length:
        return None
    try:
        message = json.loads(body)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
