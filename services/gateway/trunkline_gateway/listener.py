"""The listening socket at the end of its life: nobody may be left in its queue."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

# From <linux/filter.h> and <asm-generic/socket.h>; Python names neither.
_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)


def refuse_handshakes(listener: socket.socket) -> None:
    """Let nobody new into the queue, while those in it can still be accepted.

    The kernel completes handshakes by itself, so whoever stands in the queue when a listening socket is closed
    believes to be connected, may have sent a request, and is reset. With a filter that drops every packet no
    handshake comes to its end any more; connections that were made before are not touched. Without such filters
    (not Linux) nothing happens, and a few connections may be reset.
    """
    instruction = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
