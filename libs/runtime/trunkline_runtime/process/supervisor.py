"""What a process tells the supervisor that started it, by systemd's protocol; nothing where no supervisor listens."""

from __future__ import annotations

import contextlib
import os
import socket


def tell(*lines: str) -> None:
    """Send lines such as `READY=1` to the socket that NOTIFY_SOCKET names.

    Never raises and never waits: a supervisor that does not listen is no reason not to serve.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.setblocking(False)
        # A name that begins with @ is in the abstract namespace.
        notified.sendto("\n".join(lines).encode(), address.replace("@", "\0", 1))


def started() -> None:
    """Say that the process has started: it serves, or says in its health what it waits for."""
    tell("READY=1")


def stopping() -> None:
    """Say that the process ends what is in flight."""
    tell("STOPPING=1")
