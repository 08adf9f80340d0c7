"""Which headers of a webhook are kept, and in which form: a few by name, never whatever came.

Senders put credentials of their own into headers, under any name. What is kept is what a signature or an event's
identity needs; the rest is dropped before anything is written, and each that is kept is cut to MOST_VALUE characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, islice

from trunkline_gateway.providers.base import Source
from trunkline_gateway.providers.registry import adapter_for

# Never kept, whatever a source names: but some senders put their signature where credentials stand.
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})
_CREDENTIALS = ("basic ", "bearer ", "digest ", "token ")
_ALWAYS = ("content-type", "content-encoding")
# Of a source that is not known nobody can say how its sender signs: what is called as signatures are called.
_AS_SIGNATURES_ARE_CALLED = ("signature", "hmac", "digest", "timestamp")
_OF_ANYBODY = frozenset({*_ALWAYS, "webhook-id", "svix-id"})
# No sender's signature comes near this, several secrets' signatures in one header included.
MOST_VALUE = 2_048
MOST_KEPT = 16
_MOST_NAME = 128


def kept_of(source: Source, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that verify a delivery of this source again, and say what it is."""
    adapter = adapter_for(source.provider)
    signed_in = adapter.signature_headers(source)
    names = {*_ALWAYS, *signed_in, *adapter.identity_headers} - _SECRET
    if "authorization" in signed_in and _is_signature(headers.get("authorization", "")):
        names.add("authorization")
    return _cut((name, headers[name]) for name in sorted(names) if name in headers)


def kept_of_anybody(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that may verify a delivery once its source is known."""
    named = ((name, headers[name]) for name in sorted(_OF_ANYBODY) if name in headers)
    called_so = (
        (name, value)
        for name, value in headers.items()
        if name not in _SECRET | _OF_ANYBODY and any(word in name for word in _AS_SIGNATURES_ARE_CALLED)
    )
    return _cut(chain(named, called_so))


def _is_signature(value: str) -> bool:
    return not value.lstrip().lower().startswith(_CREDENTIALS)


def _cut(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the first few, each cut: whoever may send a header must not choose how much is stored of it."""
    short = ((name, value[:MOST_VALUE]) for name, value in headers if len(name) <= _MOST_NAME)
    return dict(islice(short, MOST_KEPT))


def pack(headers: Mapping[str, str]) -> bytes:
    """Return the headers as lines of `name: value`. A header's value holds no line break."""
    return "\n".join(f"{name}: {value}" for name, value in headers.items()).encode("latin-1", "replace")


def pack_some(headers: Mapping[str, str], names: Iterable[str]) -> bytes:
    """Return those headers only, packed: what tells which event a verified receipt is, mostly nothing."""
    if not names:
        return b""
    return pack({name: headers[name][:MOST_VALUE] for name in names if name in headers})


def unpack(raw: bytes) -> dict[str, str]:
    """Undo `pack`."""
    return dict(line.split(": ", 1) for line in raw.decode("latin-1").split("\n") if ": " in line)
