"""Structured logs: JSON or console lines with tenant, event and trace, and nothing private."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import sys
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Self, TextIO, cast

import structlog

from trunkline_runtime.observe import metrics, redact, tracing

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_QUIET = ("grpc", "asyncio", "hypercorn", "httpx", "httpcore", "sqlalchemy.engine", "alembic")
_context: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar(
    "trunkline_log", default=None
)

Event = MutableMapping[str, Any]

_lost = metrics.counter("trunkline_log_lines_lost_total", "Log lines that could not be written")


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger: `log.info("call_recorded", seconds=1.2)`; events in snake_case, facts by keyword."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(module=name))


class bind:
    """Add facts to the log lines of this task: `bind(tenant="acme")`; `with bind(call=name):` ends them."""

    def __init__(self, **facts: Any) -> None:
        self._token: contextvars.Token[dict[str, Any] | None] | None = _context.set(
            {**(_context.get() or {}), **facts}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _context.reset(self._token)
            self._token = None


def bound() -> dict[str, Any]:
    """Return the facts that log lines of this task carry."""
    return dict(_context.get() or {})


def configure(service: str, fmt: str = "json", level: str = "info") -> None:
    """Send the logs of this process, the standard library's too, to stdout as `json` or `console` lines."""
    least = _LEVELS[level]
    stream = cast(TextIO, _LossyStream(sys.stdout))

    def add_service(_logger: Any, _method: str, event: Event) -> Event:
        event["service"] = service
        return event

    shared: list[Any] = [
        _add_context,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact_processor,
        add_service,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if fmt == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_context, structlog.stdlib.add_log_level, _add_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact_processor,
                add_service,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(least, logging.WARNING))


class _LossyStream:
    """Lines that cannot be written, because the disk is full or nobody reads, are lost: no work fails over a log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or count a line that is lost."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:  # half of a character, as JSON can say it
            return self.write(text.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError):  # ValueError: it was closed
            _lost.inc()
            return len(text)

    def flush(self) -> None:
        """Hand on what was written, as far as that goes."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def redact_processor(_logger: Any, _method: str, event: Event) -> Event:
    """Clean a record; the last of what touches its values."""
    return redact.redact(event)


def _add_context(_logger: Any, _method: str, event: Event) -> Event:
    context = _context.get()
    if context:
        for key, value in context.items():
            event.setdefault(key, value)
    if trace_id := tracing.trace_id():
        event.setdefault("trace_id", trace_id)
    return event


def _add_name(logger: logging.Logger | None, _method: str, event: Event) -> Event:
    record: logging.LogRecord | None = event.get("_record")
    if record is not None:
        event["module"] = record.name
    return event
