"""Answers that leave in one write: uvicorn writes an answer's head and its body each by itself.

Two writes are two system calls here, two packets, and two times that the sender wakes up; to a webhook, whose answer is
50 bytes, that is a fifth of all it costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_HEAD = b"HTTP/1.1 "
_INTERIM = b"HTTP/1.1 1"  # 100 Continue: the sender waits for it


class OneWrite(asyncio.Transport):
    """A transport that holds an answer's head back until the first of its body is written, or the answer ends."""

    def __init__(self, transport: asyncio.Transport):
        """Stand before `transport`; reading goes on as before."""
        self._write = self.write_whole = transport.write
        self._close = transport.close
        self._held = b""
        self._half_close = transport.write_eof if transport.can_write_eof() else None
        self.written = 0
        """Bytes that were written, but for those of `write_whole`."""
        # Asked for on every request: straight through.
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.set_protocol = transport.set_protocol  # type: ignore[method-assign]
        self.abort = transport.abort  # type: ignore[method-assign]
        self.get_write_buffer_size = transport.get_write_buffer_size  # type: ignore[method-assign]

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write, or hold an answer's head back; nothing once the connection closes: the sender has gone."""
        if self.is_closing():
            return
        self.written += len(data)
        if self._held:
            held, self._held = self._held, b""
            self._write(held + data)
        elif data[:9] == _HEAD and data[:10] != _INTERIM:
            self._held = bytes(data)
        else:
            self._write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Write all of it at once."""
        self.write(b"".join(list_of_data))

    def flush(self) -> None:
        """Write what is held: the answer had no body."""
        if self._held:
            held, self._held = self._held, b""
            if not self.is_closing():
                self._write(held)

    def end(self, data: bytes) -> None:
        """Write the last there is, and say that it is the last; what comes is still read where that can be told."""
        self._held = b""
        self._write(data)
        if self._half_close is None:
            self._close()
        else:
            self._half_close()

    def close(self) -> None:
        """Close, after what is held."""
        self.flush()
        self._close()
