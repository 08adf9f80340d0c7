"""HTTP clients that share what is dear to make: the certificates that this machine trusts (20 ms of processor time)."""

from __future__ import annotations

import functools
import ssl
from typing import Any

import httpx


@functools.cache
def trusted() -> ssl.SSLContext:
    """Return the settings of TLS that httpx makes anew for each client."""
    return httpx.create_ssl_context()


def client(**settings: Any) -> httpx.Client:
    """Return a client with these settings of httpx."""
    return httpx.Client(verify=trusted(), **settings)


def get(url: str, **settings: Any) -> httpx.Response:
    """Ask once, over a connection of its own. Raises httpx.HTTPError."""
    return httpx.get(url, verify=trusted(), **settings)


def post(url: str, **settings: Any) -> httpx.Response:
    """Post once, over a connection of its own. Raises httpx.HTTPError."""
    return httpx.post(url, verify=trusted(), **settings)
