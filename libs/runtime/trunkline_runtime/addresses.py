"""Addresses of the form host:port."""

from __future__ import annotations

import ipaddress

from trunkline_runtime import forms
from trunkline_runtime.config import ConfigError


def split(address: str, setting: str) -> tuple[str, int]:
    """Return host and port. Raises ConfigError that names the setting."""
    try:
        return forms.split(address)
    except ValueError as error:
        raise ConfigError(f"{setting} {error}; it is {address!r}") from None


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
