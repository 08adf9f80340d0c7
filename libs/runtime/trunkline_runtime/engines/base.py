"""An engine's lifetime, readiness, usage and errors."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar

from trunkline_runtime.observe import metrics
from trunkline_runtime.rpc.health import Health

NOT_READY = "ENGINE_NOT_READY"
"""Reason of an EngineError of an engine that has a `problem`."""

_ready = metrics.gauge("trunkline_engine_ready", "1 if the engine can answer, 0 if it can't", ["engine"])
_audio = metrics.counter(
    "trunkline_engine_audio_seconds_total", "Seconds of audio that the engine listened to", ["engine"]
)
_tokens = metrics.counter(
    "trunkline_engine_tokens_total",
    "Tokens that the engine read (input) and wrote (output)",
    ["engine", "kind"],
)
_cost = metrics.counter(
    "trunkline_engine_cost_micros_total", "What answers cost, in millionths of a US dollar", ["engine"]
)
passed_over = metrics.counter(
    "trunkline_engine_passed_over_total", "Answers that another engine had to give", ["engine", "reason"]
)
"""By the engine that was to answer, and why it could not."""


@dataclass(frozen=True)
class EngineUsage:
    """What an answer took, and what it costs."""

    audio_seconds: float = 0.0
    """Seconds of audio that the engine listened to, as its provider counts them."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    """Millionths of a US dollar; 0 from an engine that nobody bills."""
    unpriced: bool = False
    """Whether it costs something that is not known, since the model has no price."""
    cached: bool = False
    """Whether the answer was there already, and whoever asked first paid for it."""
    reused_similarity: float = 0.0
    """Of a cached answer to another question that is alike: how much, to 1. 0 of one to the same question."""

    def count(self, engine: str) -> None:
        """Add this to the metrics of the engine of that name."""
        _audio.labels(engine).inc(self.audio_seconds)
        _tokens.labels(engine, "input").inc(self.input_tokens)
        _tokens.labels(engine, "output").inc(self.output_tokens)
        _cost.labels(engine).inc(self.cost_micros)


class EngineError(Exception):
    """An engine could not answer.

    `reason` is UPPER_SNAKE_CASE. `transient` says whether a later attempt may succeed, and `retry_after`, in seconds,
    how soon, where the engine knows. Of one that is not transient, `of_content` says whether the engine refuses what
    it was given; otherwise it would refuse anything. `usage` is what was paid for although there is no answer.
    """

    usage: EngineUsage | None = None

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        transient: bool,
        retry_after: float | None = None,
        of_content: bool = True,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.transient = transient
        self.retry_after = retry_after
        self.of_content = of_content


class Engine(Protocol):
    """What every engine is: an async context manager, made from its own frozen settings and nothing else.

    Making one starts nothing. Entering it begins to warm it up and returns at once; while it is not ready it has a
    `problem`, and refuses with an EngineError of the reason NOT_READY. Leaving it ends all that it started. One
    instance serves many callers at once, and never blocks the event loop.
    """

    @property
    def name(self) -> str:
        """Engine, version and model, such as `whisper/1.2.1 base`; at most 64 characters, the same all its life."""

    @property
    def problem(self) -> str:
        """Why it cannot answer now, in one line; empty if it can. Cheap: asked by health and metrics."""

    async def __aenter__(self) -> Self:
        """Begin to warm up; return at once."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what it started."""


E = TypeVar("E", bound=Engine)


@contextlib.asynccontextmanager
async def attended(engine: E, health: Health) -> AsyncIterator[E]:
    """Run an engine while the block lasts, its readiness shown in the metrics and in the detail of `health`.

    The service serves without it: an engine that is not ready makes its own requests wait or fall back.
    """
    async with engine:
        # Asked when somebody looks, so nothing follows the engine in between.
        _ready.labels(engine.name).set_function(lambda: not engine.problem)
        health.note(f"engine {engine.name}", lambda: engine.problem)
        try:
            yield engine
        finally:
            with contextlib.suppress(KeyError):  # another of the same name has ended
                _ready.remove(engine.name)
