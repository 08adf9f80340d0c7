"""Addresses of the form host:port."""

from __future__ import annotations

from trunkline_runtime import forms
from trunkline_runtime.config import ConfigError


def split(address: str, setting: str) -> tuple[str, int]:
    """Return host and port. Raises ConfigError that names the setting."""
    try:
        return forms.split(address)
    except ValueError as error:
        raise ConfigError(f"{setting} {error}; it is {address!r}") from None
