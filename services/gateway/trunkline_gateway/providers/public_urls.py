"""The public URL of a request: what came with it, joined with what the gateway is set to; and what else it could be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, urlsplit, urlunsplit

_HOOKS = "/hooks/"
_PORTS = {"https": "443", "http": "80"}


def target_of(kept: str) -> str:
    """Return the path and query that were kept; long ago that was a whole URL under the base of that day."""
    return kept if kept.startswith("/") else kept[max(0, kept.find(_HOOKS)) :]


def public_url(base: str, target: str) -> str:
    """Return the URL that a request was sent to, as today's setting has it."""
    return base.rstrip("/") + target_of(target)


def with_and_without_port(url: str) -> Iterator[str]:
    """Give a URL as it is, then with its port written or left out: senders differ in that."""
    yield url
    parts = _split(url)
    if parts is None:
        return
    host, _, port = parts.netloc.rpartition("@")[2].partition(":")
    if not port:
        yield urlunsplit(parts._replace(netloc=f"{host}:{_PORTS.get(parts.scheme, '80')}"))
    else:
        yield urlunsplit(parts._replace(netloc=host))


def elsewhere(url: str, headers: Mapping[str, str]) -> Iterator[str]:
    """Give the URL under the other scheme, and under the hosts that the request itself names.

    For a hint only: whoever sends a request chooses these.
    """
    parts = _split(url)
    if parts is None:
        return
    hosts = [parts.netloc, headers.get("host", ""), headers.get("x-forwarded-host", "").split(",")[0].strip()]
    for host in dict.fromkeys(host for host in hosts if host and len(host) < 256):
        for scheme in ("https", "http"):
            made = urlunsplit(parts._replace(scheme=scheme, netloc=host))
            if made != url:
                yield made


def origin_of(url: str) -> str:
    """Return scheme, host and port."""
    parts = _split(url)
    return f"{parts.scheme}://{parts.netloc}" if parts else url[:200]


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None
