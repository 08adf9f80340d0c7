"""What stands around an engine and passes on all of it but its answers."""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar

from trunkline_runtime.engines.account import is_free

from trunkline_ai.engines.base import CompletingEngine, LanguageCapabilities, LanguageEngine

E = TypeVar("E", bound=CompletingEngine | LanguageEngine)


class Wrapped(Generic[E]):
    """An engine's name, problem, capabilities, price, and lifetime. Who derives from it answers in its own way."""

    def __init__(self, engine: E) -> None:
        self.engine = engine

    @property
    def name(self) -> str:
        """The engine's."""
        return self.engine.name

    @property
    def problem(self) -> str:
        """The engine's."""
        return self.engine.problem

    @property
    def capabilities(self) -> LanguageCapabilities:
        """The engine's."""
        return self.engine.capabilities

    @property
    def is_free(self) -> bool:
        """Whether the engine costs nothing."""
        return is_free(self.engine)

    async def __aenter__(self) -> Self:
        """Begin to warm the engine up."""
        await self.engine.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        """End the engine."""
        await self.engine.__aexit__(*raised)
