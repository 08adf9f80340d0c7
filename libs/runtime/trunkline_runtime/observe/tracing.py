"""Traces: the W3C context goes through every call; spans are exported only where an OTLP endpoint is set.

A trace begins at an edge: with a webhook, a request from outside, or a replay. There it is decided whether it is
exported (it is sampled), and everything further down goes by that. What began at no edge, such as a claim, is exported
nowhere. What a sender says of a trace of its own is linked, and never joined (docs/decisions/0106-traces.md).

Without an exporter (exporting.py), and in a trace that is not sampled, a call costs two short strings.
"""

from __future__ import annotations

import contextvars
import os
import random
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_random = random.Random(random.SystemRandom().getrandbits(64))  # noqa: S311 -- ids of traces are no secrets
os.register_at_fork(after_in_child=_random.seed)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where in a trace this task is: ids in hex, flags `01` when sampled."""

    trace_id: str
    span_id: str
    flags: str

    @property
    def traceparent(self) -> str:
        """The W3C header."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    @property
    def sampled(self) -> bool:
        """Whether its spans are exported."""
        return self.flags[-1] in "13579bdf"


class Span(Protocol):
    """What an exporting span lets its owner do."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Add a fact."""

    def failed(self, code: str) -> None:
        """Say that it failed, with the name of the status code."""


class Exporter(Protocol):
    """What the module `otel` implements. A span with a `parent` is in its trace.

    One without begins a trace: with the ids of `itself`, or random ones. `linked` is a place in another trace.
    """

    def samples(self, edge: str) -> bool:
        """Say whether a trace that begins at this edge is exported."""

    def span(
        self,
        name: str,
        kind: str,
        parent: TraceContext | None,
        attributes: Mapping[str, Any],
        *,
        itself: TraceContext | None = None,
        linked: TraceContext | None = None,
    ) -> Any:
        """Open a span: a context manager that gives a Span."""

    def record(
        self,
        name: str,
        kind: str,
        parent: TraceContext | None,
        attributes: Mapping[str, Any],
        times: tuple[int, int],
        *,
        itself: TraceContext | None = None,
        linked: TraceContext | None = None,
    ) -> None:
        """Record a span that has ended: `times` are its beginning and end, in nanoseconds of Unix time."""

    def shutdown(self) -> None:
        """Send what is left."""


_current: contextvars.ContextVar[TraceContext | None] = contextvars.ContextVar(
    "trunkline_trace", default=None
)
_exporter: list[Exporter] = []


def export(exporter: Exporter) -> Callable[[], None]:
    """Export spans through `exporter` from now on; return what ends it."""
    _exporter[:] = [exporter]

    def end() -> None:
        _exporter.clear()
        exporter.shutdown()

    return end


def current() -> TraceContext | None:
    """Return where in a trace this task is."""
    return _current.get()


def enter(context: TraceContext) -> contextvars.Token[TraceContext | None]:
    """Make this the place in the trace for the rest of the task."""
    return _current.set(context)


def leave(token: contextvars.Token[TraceContext | None]) -> None:
    """Go back to the place before `enter`."""
    _current.reset(token)


def trace_id() -> str:
    """Return the id of the trace that this task is in, empty outside of one."""
    place = _current.get()
    return place.trace_id if place is not None else ""


def incoming(traceparent: str | None) -> TraceContext | None:
    """Return the place that a caller's header says, None when it says none that is valid."""
    found = _TRACEPARENT.fullmatch(traceparent.strip()) if traceparent else None
    if found is None or found[1] == "0" * 32 or found[2] == "0" * 16:
        return None
    return TraceContext(found[1], found[2], found[3])


def new_trace() -> TraceContext:
    """Return the place at the beginning of a new trace that is not exported: its id is for logs."""
    return TraceContext(f"{_random.getrandbits(128) or 1:032x}", new_span_id(), "00")


def new_span_id() -> str:
    """Return a random span id."""
    return f"{_random.getrandbits(64) or 1:016x}"


def samples(edge: str) -> bool:
    """Say whether the trace that begins now, at an edge of this name, is exported."""
    return bool(_exporter) and _exporter[0].samples(edge)


def exemplar() -> dict[str, str] | None:
    """Return what a histogram's observation says of this task's trace; None when that is not exported."""
    place = _current.get()
    return {"trace_id": place.trace_id} if place is not None and place.sampled else None


def edge_span(method: str, traceparent: str | None, edge: str) -> AbstractContextManager[Span | None]:
    """Open the first span of a trace: that of a request from outside. Its sender's own trace is linked, at most."""
    if not samples(edge):
        return _AtPlace(new_trace())
    return _opened(
        _exporter[0].span(method.lstrip("/"), "server", None, _rpc(method), linked=incoming(traceparent))
    )


def server_span(method: str, traceparent: str | None) -> AbstractContextManager[Span | None]:
    """Open the span of a call that is served for a service of the suite, in that one's trace."""
    place = incoming(traceparent) or new_trace()
    if not _exporter or not place.sampled:
        return _AtPlace(place)
    return _opened(_exporter[0].span(method.lstrip("/"), "server", place, _rpc(method)))


def client_span(method: str) -> AbstractContextManager[Span | None]:
    """Open the span of a call that is made."""
    place = _current.get()
    if not _exporter or place is None or not place.sampled:
        return _NO_SPAN
    return _opened(_exporter[0].span(method.lstrip("/"), "client", place, _rpc(method)))


def span(name: str, **attributes: Any) -> AbstractContextManager[Span | None]:
    """Open a span of our own work, such as `with span("stage.transcribe", attempt=2):`; no content."""
    place = _current.get()
    if not _exporter or place is None or not place.sampled:
        return _NO_SPAN
    return _opened(_exporter[0].span(name, "internal", place, attributes))


def resumed_span(
    name: str, place: TraceContext, repeats: TraceContext | None = None, **attributes: Any
) -> AbstractContextManager[Span | None]:
    """Open the span of work that waited in a queue; `place` is where in the trace it was put there.

    Of work that is done again, `repeats` is a place in the trace of the first time: the span is linked to that, and
    begins the trace of `place`.
    """
    if not _exporter or not place.sampled:
        return _AtPlace(place)
    if repeats is None:
        return _opened(_exporter[0].span(name, "consumer", place, attributes))
    first = TraceContext(place.trace_id, new_span_id(), place.flags)
    return _opened(_exporter[0].span(name, "consumer", None, attributes, itself=first, linked=repeats))


def record(
    name: str,
    kind: str,
    times: tuple[int, int],
    attributes: Mapping[str, Any],
    *,
    parent: TraceContext | None = None,
    itself: TraceContext | None = None,
    linked: TraceContext | None = None,
) -> None:
    """Record a span that has ended, where anything is exported. See Exporter.record."""
    if _exporter:
        _exporter[0].record(name, kind, parent, attributes, times, itself=itself, linked=linked)


class _AtPlace:
    """Being at a place in a trace, without a span."""

    __slots__ = ("_place", "_token")

    def __init__(self, place: TraceContext) -> None:
        self._place = place

    def __enter__(self) -> None:
        self._token = enter(self._place)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self._token)


def _opened(span: Any) -> AbstractContextManager[Span | None]:
    opened: AbstractContextManager[Span | None] = span
    return opened


def _rpc(method: str) -> dict[str, str]:
    _, service, name = method.split("/", 2)
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


_NO_SPAN: AbstractContextManager[None] = nullcontext()
