"""Addresses of the form host:port."""

from __future__ import annotations

import ipaddress

from trunkline_runtime.config import ConfigError


def split(address: str, setting: str) -> tuple[str, int]:
    """Return host and port. Raises ConfigError that names the setting."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{setting}={address!r} is not an address: host:port, such as 127.0.0.1:50051")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
