"""One GET over one connection to one address: what a fetch of a recording needs of HTTP, and no more.

A general client costs four times the processor time of all the rest of a fetch, keeps connections that must
not be shared between hosts, and cookies that must not be shared between tenants.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import certifi
import httptools

_READ = 256 * 1024
_HEAD_MOST = 64 * 1024
_SWITCHED = 101
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\0\r\n]*")


class CannotConnect(Exception):
    """The address takes no connection, or its TLS is not that of the host; another address may."""


class NoAnswer(Exception):
    """What came is no answer, is cut short, or did not come in time."""


class OddAnswer(NoAnswer):
    """What came is an answer to something that was not asked, and will be so again."""


@dataclass(frozen=True)
class CheckedAddress:
    """Where to connect: an address that was checked, and the host's name for TLS (None: plain HTTP)."""

    address: str
    port: int
    tls_name: str | None


def tls_context() -> ssl.SSLContext:
    """Return the settings of TLS connections: the host's name and certificate are verified."""
    return ssl.create_default_context(cafile=certifi.where())


async def get(
    peer: CheckedAddress,
    target: str,
    headers: Mapping[str, str],
    *,
    tls: ssl.SSLContext,
    connect_seconds: float,
    read_seconds: float,
) -> HttpAnswer:
    """Ask for a target (path and query, percent-encoded); return the answer once its head is there.

    Raises CannotConnect, NoAnswer, OddAnswer, and ValueError for headers that cannot be sent.
    """
    request = _request(target, headers)
    try:
        async with asyncio.timeout(connect_seconds):
            reader, writer = await asyncio.open_connection(
                peer.address,
                peer.port,
                ssl=tls if peer.tls_name is not None else None,
                server_hostname=peer.tls_name,
            )
    except (OSError, TimeoutError) as error:
        raise CannotConnect(type(error).__name__) from None
    answer = HttpAnswer(reader, writer, read_seconds)
    try:
        writer.write(request)
        await answer.head()
    except BaseException:
        answer.close()
        raise
    return answer


def _request(target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"GET {target} HTTP/1.1"]
    for name, value in headers.items():
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ValueError("a header cannot be sent")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


class HttpAnswer:
    """An answer whose body is being read; `headers` have lower-case names, the last of equal ones stands."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, read_seconds: float
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._reader = reader
        self._writer = writer
        self._read_seconds = read_seconds
        self._parser = httptools.HttpResponseParser(self)
        self._begun = self._complete = False
        self._informed = 0  # the last status that only announced an answer
        self._body: list[bytes] = []

    async def head(self) -> None:
        """Read until status and headers are there. Raises NoAnswer, OddAnswer."""
        size = 0
        while not self._begun:
            size += await self._more()
            if size > _HEAD_MOST and not self._begun:
                raise NoAnswer("the answer's head is too long")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the body in pieces. Raises NoAnswer when it is cut short."""
        while True:
            body, self._body = self._body, []
            if body:  # one piece for each read: a host may send chunks of one byte
                yield b"".join(body)
            if self._complete:
                return
            await self._more()

    def close(self) -> None:
        """Let the connection go, at once: nothing more is wanted of it."""
        self._writer.transport.abort()

    async def _more(self) -> int:
        """Read and parse some bytes; how many."""
        try:
            async with asyncio.timeout(self._read_seconds):
                data = await self._reader.read(_READ)
            if data:
                self._parser.feed_data(data)
            else:
                self._ended()
        except TimeoutError:
            raise NoAnswer("silence") from None
        except (OSError, EOFError) as error:
            raise NoAnswer(type(error).__name__) from None
        except httptools.HttpParserUpgrade:
            pass  # the status says it: 101
        except httptools.HttpParserInvalidStatusError:
            raise OddAnswer("the host answered without a status that HTTP knows") from None
        except httptools.HttpParserError as error:
            if not self._complete:  # what comes behind an answer is nobody's
                raise NoAnswer(type(error).__name__) from None
        return len(data)

    def _ended(self) -> None:
        """The other side closed: the end of a body without a length, too early for any other."""
        if self._informed and not self._begun:
            raise OddAnswer(f"the host answered {self._informed} and nothing after it")
        sized = "content-length" in self.headers or "transfer-encoding" in self.headers
        if not self._begun or sized:
            raise NoAnswer("closed too early")
        self._complete = True

    # What the parser calls:

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer behind the body is not looked at."""
        if not self._begun:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Know the status, unless it is one that only says that the answer will come."""
        if self._begun:
            return
        status = self._parser.get_status_code()
        if (
            100 <= status < 200 and status != _SWITCHED
        ):  # after that one no answer comes: the line speaks otherwise
            self._informed = status
            self.headers.clear()
            return
        self.status, self._begun = status, True

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if not self._complete:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Know that the body is whole."""
        self._complete = self._begun
