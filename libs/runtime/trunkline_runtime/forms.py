"""What the text of a setting may look like: addresses, URLs, networks, and places on disk.

A form checks the text alone (`check`), the disk where one is named (`look`, at every start, nothing is written), and
the network (`reach`, for `--check` only: a service that is not there yet is waited for).
"""

from __future__ import annotations

import errno
import importlib
import ipaddress
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_REACH_SECONDS = 3.0
_SQLITE, _SPANNER = "sqlite:///", "spanner+spanner:///"
_SQLITE_BEGINS = b"SQLite format 3\0"
_DATABASE = re.compile(r"projects/[^/?#]++/instances/[^/?#]++/databases/[^/?#]++(?=[?#]|$)")
_STORES = ("gateway.db", "tenant.db", "audio.db", "ai.db")
_TYPO = 2
TRUSTED_KEYS = "trusted.json"
"""The public keys of all services, in the folder of keys."""
TLS_FILES = ("tls.crt", "tls.key", "ca.crt")
"""A certificate, its key, and the authorities that are trusted: named as in the Secrets of cert-manager."""
_DNS = re.compile(r"dns://[^/]*+/")


@dataclass(frozen=True, slots=True)
class Form:
    """One form. Each part raises ValueError that says what is allowed, as the end of "NAME ...".

    `look` gets the value and whether it is the default: the folder of a store is made for that only.
    """

    allowed: str
    check: Callable[[Any], object]
    look: Callable[[Any, bool], None] | None = None
    reach: Callable[[Any], None] | None = None


def split(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or any(c.isspace() for c in host):
        raise ValueError("must be host:port, such as 127.0.0.1:50051")
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise ValueError("must be host:port with a port from 0 to 65535")
    return host.strip("[]"), int(port)


def _target(address: str) -> tuple[str, int]:
    host, port = split(_DNS.sub("", address, count=1))
    if not port:
        raise ValueError("must be host:port with a port from 1 to 65535")
    return host, port


def is_loopback(address: str) -> bool:
    """Tell whether only this machine reaches `host:port`. Raises ValueError."""
    host, _ = split(_DNS.sub("", address, count=1))
    return is_loopback_host(host)


def is_loopback_host(host: str) -> bool:
    """Tell whether only this machine reaches a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _maybe_listens(address: str) -> None:
    if address:
        split(address)


def _is_here(address: str, _default: bool) -> None:
    """Look whether the host is one of this machine's. A port in use is no wrong setting: `--check` runs beside it."""
    if not address:
        return
    host, _ = split(address)
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.bind(where)
    except socket.gaierror as error:
        raise ValueError(f"must be host:port with a host that can be resolved: {error.strerror}") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise ValueError("must be host:port with a host of this machine") from None


def _connects(address: str) -> None:
    if address.startswith("dns://") and not address.startswith("dns:///"):
        return  # its name is known to a name server of its own only
    host, port = _target(address)
    try:
        socket.create_connection((host, port), timeout=_REACH_SECONDS).close()
    except OSError as error:
        raise ValueError(f"cannot be reached: {error.strerror or error}") from None


def _maybe_endpoint(text: str) -> None:
    if text:
        split(text.removeprefix("http://"))


def _web(url: str, such_as: str = "https://hooks.example.com") -> None:
    say = f"must be a URL with http:// or https:// and a host, without a query, such as {such_as}"
    try:
        parts = urlsplit(url)
        ok = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        ok = False
    if not ok or parts.query or parts.fragment or parts.username or any(c.isspace() for c in url):
        raise ValueError(say)


def _maybe_web(url: str | None) -> None:
    if url:
        _web(url, "http://127.0.0.1:4317")


def _maybe_redis(url: str | None) -> None:
    if url and not url.startswith(("redis://", "rediss://")):
        raise ValueError("must be a URL that begins with redis:// or rediss://")


def _origins(text: str) -> None:
    for origin in filter(None, text.split(",")):
        _web(origin, "http://127.0.0.1:9000")


def _networks(texts: tuple[str, ...]) -> None:
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            raise ValueError("must be networks in CIDR form, comma-separated, such as 10.0.0.0/8") from None


def _store(url: str) -> None:
    if not (url.startswith(_SQLITE) and url != _SQLITE) and not url.startswith(_SPANNER):
        raise ValueError(
            f"must be {_SQLITE}path, with a fourth slash before an absolute path, or {_SPANNER}..."
        )
    if url.startswith(_SPANNER) and not _DATABASE.match(url, len(_SPANNER)):
        raise ValueError(f"must be {_SPANNER}projects/PROJECT/instances/INSTANCE/databases/DATABASE")


def _store_is_there(url: str, default: bool) -> None:
    if not url.startswith(_SQLITE):
        return
    path = Path(url.removeprefix(_SQLITE).partition("?")[0])
    if not default and not path.absolute().parent.is_dir():
        raise ValueError(f"must be in a folder that exists: {path.absolute().parent} does not")
    _file(path, default)
    if not path.exists() and (near := _meant(path)):
        raise ValueError(f"names a missing database, but {near} is beside it: a typo?")


def _meant(path: Path) -> Path | None:
    """Return the database beside a missing one whose name is so near that it may be meant."""
    try:
        beside = sorted(path.parent.iterdir())
    except OSError:
        return None
    for other in beside:
        changes = SequenceMatcher(None, path.name, other.name, autojunk=False).get_opcodes()
        far = sum(max(b - a, d - c) for tag, a, b, c, d in changes if tag != "equal")
        if (
            0 < far <= _TYPO
            and (other.name not in _STORES or path.name not in _STORES)
            and _is_database(other)
        ):
            return other
    return None


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE_BEGINS)) == _SQLITE_BEGINS
    except OSError:
        return False


def _file(path: Path | None, default: bool) -> None:
    if path is None:
        return
    if path.is_dir():
        raise ValueError("must be a file, not a folder")
    _folder(path.absolute().parent, default)


def _has_keys(path: Path, _default: bool) -> None:
    if not (path / TRUSTED_KEYS).is_file():
        raise ValueError(
            f"must be a folder with {TRUSTED_KEYS}: python -m trunkline_runtime.identity.keys FOLDER makes it"
        )


def _has_certificate(path: Path | None, _default: bool) -> None:
    if path is not None and (missing := [name for name in TLS_FILES if not (path / name).is_file()]):
        raise ValueError(f"must be a folder with {', '.join(TLS_FILES)}; it lacks {', '.join(missing)}")


def _place(path: Path | None, default: bool) -> None:
    if path is not None:
        _folder(path.absolute().parent if path.is_file() else path, default)


def _folder(path: Path, _default: bool) -> None:
    at = path.absolute()
    while not os.path.lexists(at) and at != at.parent:
        at = at.parent
    if not at.is_dir():
        raise ValueError(f"must be in a folder, and {at} is not one")
    # A disk that is full, or read-only since a fault, is no wrong setting: it is waited for.
    read_only = os.statvfs(at).f_flag & os.ST_RDONLY
    if not read_only and not os.access(at, os.W_OK | os.X_OK):
        raise ValueError(f"must be in a folder that this user can write, and {at} is not")


def named(what: str, *, optional: bool = False) -> Form:
    """Return the form of a name in somebody else's system: letters, digits, and `.`, `_`, `-`, `:`."""
    what = f"{what}, or empty" if optional else what

    def check(text: str) -> None:
        if not text and not optional:
            raise ValueError(f"must be {what}, and is empty")
        if not all(letter.isalnum() or letter in "._-:" for letter in text) or not text.isascii():
            raise ValueError(f"must be {what}: letters, digits, and . _ - : only")

    return Form(what, check)


def plug_in(*names: str) -> Form:
    """Return the form of a part that has one of these names, or is somebody's own, which `--check` imports."""
    allowed = ", ".join(names) + ", or module:factory"

    def check(text: str) -> None:
        module, _, factory = text.partition(":")
        if text not in names and not all(part.isidentifier() for part in (*module.split("."), factory)):
            raise ValueError(f"must be {allowed}")

    def reach(text: str) -> None:
        if text in names:
            return
        module, _, factory = text.partition(":")
        try:
            made = getattr(importlib.import_module(module), factory)
        except Exception as error:  # whatever another's module raises
            raise ValueError(f"cannot be loaded: {type(error).__name__}: {error}") from None
        if not callable(made):
            raise ValueError("must be a factory, and it cannot be called")

    return Form(allowed, check, reach=reach)


def plug_ins(*names: str) -> Form:
    """Return the form of one or more parts as in `plug_in`, comma-separated, each once, the preferred one first."""
    one = plug_in(*names)
    allowed = f"{one.allowed}; or several, comma-separated"

    def check(texts: tuple[str, ...]) -> None:
        for text in texts:
            one.check(text)
        if not texts or len(set(texts)) < len(texts):
            raise ValueError(f"must be {allowed}, each once")

    def reach(texts: tuple[str, ...]) -> None:
        for text in texts:
            assert one.reach is not None
            one.reach(text)

    return Form(allowed, check, reach=reach)


LISTEN = Form("host:port", split, _is_here)
"""Where a service listens."""
MAYBE_LISTEN = Form("host:port, or empty", _maybe_listens, _is_here)
"""The same, where it may be turned off."""
SWITCH = Form("true, false", lambda _value: None)
ADDRESS = Form("host:port", _target, reach=_connects)
"""Where another service is."""
MAYBE_ENDPOINT = Form("host:port, http://host:port, or empty", _maybe_endpoint)
"""A service of another's, where it isn't the usual one; with http:// it is asked without TLS."""
WEB = Form("http(s)://host", _web)
MAYBE_WEB = Form("http(s)://host:port, or empty", _maybe_web)
MAYBE_REDIS = Form("redis://host:port/number, or empty", _maybe_redis)
ORIGINS = Form("http(s)://host, comma-separated", _origins)
NETWORKS = Form("networks in CIDR form, comma-separated", _networks)
KEYS = Form(f"a folder with {TRUSTED_KEYS}", lambda _path: None, _has_keys)
TLS = Form(f"a folder with {', '.join(TLS_FILES)}, or empty", lambda _path: None, _has_certificate)
STORE = Form(f"{_SQLITE}path or {_SPANNER}...", _store, _store_is_there)
FOLDER = Form("a folder that can be written", lambda _path: None, _folder)
FILE = Form("a file in a folder that can be written", lambda _path: None, _file)
PLACE = Form("a folder that can be written", lambda _path: None, _place)
"""The same, where the service itself tells of a file of an earlier release that is in the folder's place."""
