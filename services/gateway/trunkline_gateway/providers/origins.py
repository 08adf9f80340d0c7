"""Whose URL it is: decides who may see a credential."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

_PORTS = {"https": 443, "http": 80}


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is none
    except ValueError:
        return None
    return parts if parts.hostname and not (parts.username or parts.password) else None


def has_host_of(url: str, domain: str) -> bool:
    """Say whether a URL is https at the domain or below it, on the usual port."""
    parts = _split(url)
    if parts is None or parts.scheme != "https" or parts.port not in (None, 443):
        return False
    host = (parts.hostname or "").rstrip(".")
    return host == domain or host.endswith("." + domain)


def same_origin(url: str, base: str) -> bool:
    """Say whether two URLs have the same scheme, host and port."""
    left, right = _split(url), _split(base)
    if left is None or right is None:
        return False
    return (left.scheme, left.hostname, left.port or _PORTS.get(left.scheme)) == (
        right.scheme,
        right.hostname,
        right.port or _PORTS.get(right.scheme),
    )


def at_base(url: str, base: str) -> str:
    """Return the URL's path and query under another base."""
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return base.rstrip("/") + parts.path + query
