"""A name server for one machine: a name's addresses change as those of a headless Service do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterable
from typing import Self

_A, _IN = 1, 1
_ANSWER = 0x8180  # a response to a recursive question
_NO_NAME = 3


class Names:
    """Answers A questions on a UDP port of loopback while the block lasts; answers are good for `ttl` seconds."""

    def __init__(self, ttl: int = 5) -> None:
        self._ttl = ttl
        self._known: dict[str, tuple[str, ...]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def set(self, name: str, hosts: Iterable[str]) -> None:
        """Have a name stand for these IPv4 addresses from now on."""
        self._known[name] = tuple(hosts)

    def target(self, name: str, port: int) -> str:
        """Return what a gRPC client is given to find a name here."""
        return f"dns://127.0.0.1:{self._socket.getsockname()[1]}/{name}:{port}"

    def _serve(self) -> None:
        while True:
            try:
                question, sender = self._socket.recvfrom(512)
                self._socket.sendto(self._answer(question), sender)
            except OSError:
                return

    def _answer(self, question: bytes) -> bytes:
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode("ascii", "replace"))
            at += 1 + length
        kind = struct.unpack_from("!H", question, at + 1)[0]
        asked = question[12 : at + 5]
        name = ".".join(labels).lower()
        hosts = self._known.get(name, ()) if kind == _A else ()
        code = 0 if name in self._known else _NO_NAME
        head = question[:2] + struct.pack("!HHHHH", _ANSWER | code, 1, len(hosts), 0, 0)
        records = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", _A, _IN, self._ttl, 4) + socket.inet_aton(host)
            for host in hosts
        )
        return head + asked + records
