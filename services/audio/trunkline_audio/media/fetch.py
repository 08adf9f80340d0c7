"""Fetches a recording over HTTP: bounded, to addresses that were checked, telling "not yet" from "never"."""

from __future__ import annotations

import asyncio
import email.utils
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from importlib import metadata

import httpx

from trunkline_audio.media.addresses import AddressPolicy, Resolve, Resolver
from trunkline_audio.media.http_get import (
    CannotConnect,
    CheckedAddress,
    HttpAnswer,
    NoAnswer,
    OddAnswer,
    get,
    tls_context,
)

REDIRECTS = frozenset({301, 302, 303, 307, 308})
NOT_YET = frozenset({202, 204, 404, 409, 425, 429, 503})
FORBIDDEN = frozenset({401, 403, 407})
GONE = frozenset({410, 451})
_USER_AGENT = f"trunkline/{metadata.version('trunkline-audio')}"
_CONTENT_TYPE_MOST = 64
_DATE_MOST = 100
TROUBLE = frozenset({408, 421, 423})
"""Beside every status from 500 on: proxies have some of their own."""


class FetchFailure(Enum):
    """Why there are no bytes; the value is the reason that callers see."""

    NOT_READY = "RECORDING_NOT_READY"
    EMPTY = "RECORDING_EMPTY"
    UNREACHABLE = "RECORDING_UNREACHABLE"
    GONE = "RECORDING_GONE"
    FORBIDDEN = "RECORDING_FORBIDDEN"
    TOO_LARGE = "RECORDING_TOO_LARGE"
    ADDRESS_REFUSED = "ADDRESS_REFUSED"
    BAD_ANSWER = "RECORDING_BAD_ANSWER"

    @property
    def transient(self) -> bool:
        """Whether the same fetch may succeed later."""
        return self in {FetchFailure.NOT_READY, FetchFailure.EMPTY, FetchFailure.UNREACHABLE}


class FetchError(Exception):
    """There are no bytes; the message never holds the URL, whose query may be a credential."""

    def __init__(self, failure: FetchFailure, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.failure = failure
        self.retry_after = retry_after


@dataclass(frozen=True)
class FetchLimits:
    """Bounds of one fetch, redirects included."""

    max_bytes: int = 512 * 1024 * 1024
    total_seconds: float = 300.0
    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    max_redirects: int = 5
    at_once: int = 64
    """Fetches: so many names may be looked up at once."""


@dataclass(frozen=True)
class _Hop:
    """One request on the way of an order: `headers` are credentials, for the origin that was ordered alone.

    Once a hop has left that origin they are gone for good, also on the way back: where it leads to there was said
    by another host.
    """

    url: httpx.URL
    headers: Mapping[str, str] = field(repr=False)
    ordered: tuple[str, str, int]

    def to(self, url: httpx.URL) -> _Hop:
        """The hop after this one."""
        return _Hop(url, self.headers if _origin(url) == self.ordered else {}, self.ordered)


class Fetched:
    """An answer whose body is being read."""

    def __init__(self, answer: HttpAnswer, hop: _Hop, max_bytes: int) -> None:
        self._answer = answer
        self._max_bytes = max_bytes
        self._hop = hop
        self._began = time.monotonic()
        self._size = 0

    @property
    def progress(self) -> str:
        """How much has come so far, and in which time, for people."""
        length = self._answer.headers.get("content-length", "")
        of = f" of {length}" if length.isdigit() and len(length) < 20 else ""
        return f"{self._size}{of} bytes in {time.monotonic() - self._began:.1f} s"

    @property
    def content_type(self) -> str:
        """What the host says that it is, without parameters; empty when it does not say."""
        written = self._answer.headers.get("content-type", "").split(";", 1)[0].strip().lower()
        return written[:_CONTENT_TYPE_MOST] if written.isascii() and written.isprintable() else ""

    def resolved(self, reference: str) -> httpx.URL:
        """A URL found in this answer, taken relative to where the answer came from."""
        return _parsed(reference, base=self._hop.url)

    def headers_for(self, url: httpx.URL) -> Mapping[str, str]:
        """The headers that may be sent on to a URL found in this answer: those of the order, or none."""
        return self._hop.to(url).headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces. Raises FetchError: TOO_LARGE, UNREACHABLE if cut short, EMPTY."""
        try:
            async for chunk in self._answer.chunks():
                self._size += len(chunk)
                if self._size > self._max_bytes:
                    raise FetchError(
                        FetchFailure.TOO_LARGE, f"the answer has more than {self._max_bytes} bytes"
                    )
                yield chunk
        except NoAnswer as error:
            said = f"the answer was cut short ({error}) after {self.progress}"
            raise FetchError(FetchFailure.UNREACHABLE, said) from None
        if self._size == 0:
            raise FetchError(FetchFailure.EMPTY, "the answer was empty")

    async def read(self, max_bytes: int) -> bytes:
        """The whole body, for small answers, such as one that names the recording."""
        self._max_bytes = min(self._max_bytes, max_bytes)
        try:
            return b"".join([chunk async for chunk in self.chunks()])
        except FetchError as error:
            if error.failure is not FetchFailure.EMPTY:
                raise
            raise FetchError(FetchFailure.NOT_READY, str(error)) from None


class Fetcher:
    """Fetches http and https URLs.

    Each hop's host is resolved once, each address checked, and the connection made to that very address, so a
    name that resolves differently a moment later wins nothing. TLS still verifies the host's name. Proxies
    from the environment are not used: they would resolve names themselves.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        limits: FetchLimits,
        *,
        resolver: Resolve | None = None,
    ) -> None:
        """`resolver` is another way to look names up than the system's."""
        self._policy = policy
        self._limits = limits
        self._system = Resolver(limits.at_once)
        self._resolve = resolver or self._system
        self._tls = tls_context()

    def close(self) -> None:
        """Let go of what looks names up."""
        self._system.close()

    @asynccontextmanager
    async def fetch(
        self, url: str | httpx.URL, headers: Mapping[str, str], seconds: float | None = None
    ) -> AsyncIterator[Fetched]:
        """Opens `url`; `headers` go to its own origin only; `seconds` may be less than the limit. Raises FetchError."""
        most = min(self._limits.total_seconds, seconds if seconds is not None else float("inf"))
        fetched: Fetched | None = None
        try:
            async with asyncio.timeout(most):
                ordered = _parsed(url) if isinstance(url, str) else url
                answer, last = await self._follow(_Hop(ordered, headers, _origin(ordered)))
                fetched = Fetched(answer, last, self._limits.max_bytes)
                try:
                    yield fetched
                finally:
                    answer.close()
        except TimeoutError:
            so_far = f"only {fetched.progress}" if fetched is not None else "no answer"
            raise FetchError(
                FetchFailure.UNREACHABLE, f"the fetch took more than {most:.3g} s: {so_far}"
            ) from None

    async def _follow(self, hop: _Hop) -> tuple[HttpAnswer, _Hop]:
        for _ in range(self._limits.max_redirects + 1):
            answer = await self._open(hop)
            if answer.status not in REDIRECTS:
                try:
                    _judge(answer, self._limits.max_bytes)
                except FetchError:
                    answer.close()
                    raise
                return answer, hop
            location = answer.headers.get("location", "")
            answer.close()
            if not location:
                raise FetchError(FetchFailure.BAD_ANSWER, f"status {answer.status} without a Location")
            hop = hop.to(_parsed(location, base=hop.url))
        raise FetchError(FetchFailure.BAD_ANSWER, f"more than {self._limits.max_redirects} redirects")

    async def _open(self, hop: _Hop) -> HttpAnswer:
        url = hop.url
        addresses = await self._checked(url)
        plain = {name: value for name, value in hop.headers.items() if name.lower() not in _OURS}
        plain |= {"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity", "Accept": "*/*"}
        plain["User-Agent"] = _USER_AGENT
        tls_name = url.raw_host.decode("ascii") if url.scheme == "https" else None
        failure = ""
        for address in addresses:
            try:
                return await get(
                    CheckedAddress(address, _port(url), tls_name),
                    url.raw_path.decode("ascii"),
                    plain,
                    tls=self._tls,
                    connect_seconds=self._limits.connect_seconds,
                    read_seconds=self._limits.read_seconds,
                )
            except CannotConnect as error:
                failure = str(error)
            except OddAnswer as error:
                raise FetchError(FetchFailure.BAD_ANSWER, str(error)) from None
            except NoAnswer as error:
                raise FetchError(FetchFailure.UNREACHABLE, f"the host did not answer: {error}") from None
            except ValueError:
                raise FetchError(
                    FetchFailure.BAD_ANSWER, "a header contains characters that HTTP does not allow"
                ) from None
        raise FetchError(FetchFailure.UNREACHABLE, f"no address of the host accepts connections: {failure}")

    async def _checked(self, url: httpx.URL) -> list[str]:
        try:
            addresses = await self._resolve(url.host, _port(url))
        except (socket.gaierror, UnicodeError):
            raise FetchError(FetchFailure.UNREACHABLE, "the host cannot be resolved") from None
        # One refused address refuses the host: a name that mixes both kinds is an attack or a mistake.
        if not addresses or not all(self._policy.permits(address) for address in addresses):
            raise FetchError(
                FetchFailure.ADDRESS_REFUSED,
                "the host is in a network that recordings cannot be fetched from"
                " (TRUNKLINE_AUDIO_FETCH_ALLOWED_NETWORKS allows private networks)",
            )
        return addresses


_OURS = frozenset(
    {
        "host",
        "accept",
        "accept-encoding",
        "connection",
        "transfer-encoding",
        "content-length",
        "range",
        "user-agent",
    }
)


def _parsed(text: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        url = httpx.URL(text)
        if base is not None and url.is_relative_url:
            url = base.join(url)
    except (httpx.InvalidURL, ValueError):
        raise FetchError(FetchFailure.BAD_ANSWER, "the URL cannot be read") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise FetchError(FetchFailure.ADDRESS_REFUSED, "the URL must be an http or https URL with a host")
    return url


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host.lower(), _port(url)


def _judge(response: HttpAnswer, max_bytes: int) -> None:
    status = response.status
    if status in NOT_YET:
        raise FetchError(FetchFailure.NOT_READY, f"the provider answered {status}", _retry_after(response))
    if status in FORBIDDEN:
        raise FetchError(FetchFailure.FORBIDDEN, f"the provider answered {status}")
    if status in TROUBLE or 500 <= status < 600:
        raise FetchError(FetchFailure.UNREACHABLE, f"the provider answered {status}", _retry_after(response))
    if status in GONE:
        raise FetchError(FetchFailure.GONE, f"the provider answered {status}")
    if status != 200:
        raise FetchError(FetchFailure.BAD_ANSWER, f"the provider answered {status}")
    if response.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
        # We asked for none; unpacking what came anyway could blow a small answer up.
        raise FetchError(
            FetchFailure.BAD_ANSWER,
            "the provider compressed the answer although the request declined compression",
        )
    length = response.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > max_bytes:
        raise FetchError(
            FetchFailure.TOO_LARGE, f"the answer has {length} bytes, at most {max_bytes} are kept"
        )


def _retry_after(response: HttpAnswer) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its forms, at most a day."""
    text = response.headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(86_400.0, float(text))
    try:
        until = email.utils.parsedate_to_datetime(text[:_DATE_MOST])
    except (
        TypeError,
        ValueError,
        OverflowError,
        IndexError,
    ):  # the parser tells of odd dates in all these ways
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(86_400.0, max(0.0, (until - datetime.now(UTC)).total_seconds()))
