"""Resource names (`tenants/acme/calls/123`) and the ids they are made of."""

from __future__ import annotations

import base64
import functools
import re
import secrets
from collections.abc import Iterable

from trunkline_runtime.errors import InvalidArgument

ID_PATTERN = r"[a-z0-9-]{2,40}"
WILDCARD = "-"
_MOST_NAME = 512  # characters of the longest name that is looked at
_ID = re.compile(ID_PATTERN)
_TENANT = re.compile(rf"tenants/({ID_PATTERN}|-)(?:/[^\s]+)?")
_VARIABLE = re.compile(r"\{([a-z_]+)\}")


def new_id() -> str:
    """Return a random id: 22 characters of a-z and 2-7, 110 bits; nothing of it grows with time."""
    return base64.b32encode(secrets.token_bytes(15)).decode("ascii")[:22].lower()


def is_id(text: str) -> bool:
    """Tell whether a text may be an id: 2 to 40 of a-z, 0-9 and `-`."""
    return len(text) <= _MOST_NAME and _ID.fullmatch(text) is not None


def tenant_of(name: str, *, field: str = "name") -> str:
    """Return the bare tenant id that a resource name begins with; `-` for the wildcard.

    Raises InvalidArgument for `field` when the name is not of the form `tenants/{tenant}[/...]`.
    """
    found = _TENANT.fullmatch(name) if len(name) <= _MOST_NAME else None
    if found is None:
        raise InvalidArgument(field, f"{name[:100]!r} is not of the form tenants/{{tenant}}/...")
    return found.group(1)


def parse(pattern: str, name: str, *, field: str = "name", wildcard: bool = False) -> dict[str, str]:
    """Return the ids of a name by the variables of a pattern such as `tenants/{tenant}/calls/{call}`.

    With `wildcard` an id may be `-`. Raises InvalidArgument for `field` when the name does not fit.
    """
    found = _compiled(pattern, wildcard).fullmatch(name) if len(name) <= _MOST_NAME else None
    if found is None:
        raise InvalidArgument(field, f"{name[:100]!r} is not of the form {pattern}")
    return found.groupdict()


def ids_under(parent: str, names: Iterable[str], *, field: str) -> list[str]:
    """Return the last ids of names below a parent. Raises InvalidArgument for `field` when one is of another parent."""
    found = []
    for name in names:
        if not name.startswith(f"{parent}/"):
            raise InvalidArgument(field, f"{name[:100]!r} does not belong to {parent}")
        found.append(name.rpartition("/")[2])
    return found


def format(pattern: str, **ids: str) -> str:
    """Return the name that a pattern makes of ids. Raises InvalidArgument for an id that cannot be one."""
    for variable, value in ids.items():
        if not is_id(value):
            raise InvalidArgument(variable, f"{value[:100]!r} is not an id: 2 to 40 of a-z, 0-9 and -")
    return pattern.format(**ids)


@functools.cache
def _compiled(pattern: str, wildcard: bool) -> re.Pattern[str]:
    one = f"(?:{ID_PATTERN}|-)" if wildcard else ID_PATTERN
    parts = _VARIABLE.split(pattern)
    text = "".join(f"(?P<{part}>{one})" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    return re.compile(text)
