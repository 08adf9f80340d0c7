"""The listening socket: how many it can take, and its end, when nobody may be left in its queue."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import socket
import struct

# From <linux/filter.h> and <asm-generic/socket.h>; Python names neither.
_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
# Connections that are being refused, files, and channels to other services.
_OTHER_FILES = 512


def room_for(connections: int) -> int:
    """Let the process open as many connections, as far as it may be; return how many there is room for.

    A process that runs out of file descriptors cannot open its store or answer anybody.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == resource.RLIM_INFINITY else max(1, soft - _OTHER_FILES)


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
