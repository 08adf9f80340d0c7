"""What models behind a network have in common: places, patience with a provider's trouble, and the set-up's problem."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from trunkline_runtime.engines.base import NOT_READY, EngineError, EngineUsage
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.resilience import RetryPolicy, Sleep, retrying
from trunkline_runtime.rpc.call import current_rpc

from trunkline_ai.engines.base import Completion

log = get_logger(__name__)

QUOTA = "ENGINE_QUOTA"
UNREACHABLE = "ENGINE_UNREACHABLE"
TIMEOUT = "ENGINE_TIMEOUT"
REFUSED = "ENGINE_REFUSED"
"""The provider refuses the request itself, and would refuse it again."""
TOO_LONG = "CONVERSATION_TOO_LONG"
BLOCKED = "CONTENT_BLOCKED"
_ATTEMPTS = 10
_ANSWER_SECONDS = 0.5  # of a caller's deadline, for the way back
_MOST_TOLD = 300


class RemoteAsker:
    """Asks a provider, so many requests at once, again while that may help.

    A refusal that is about the set-up (key, project, model) is the `problem` until a request succeeds; requests go on,
    so that mending it is enough.
    """

    def __init__(
        self, engine: str, at_once: int, patience_seconds: float, sleep: Sleep = asyncio.sleep
    ) -> None:
        """`engine` is the name for the log."""
        self.problem = ""
        self._engine = engine
        self._places = asyncio.Semaphore(at_once)
        self._patience_seconds = patience_seconds
        self._sleep = sleep

    async def ask(self, once: Callable[[], Awaitable[Completion]]) -> Completion:
        """Return what `once` returns; it raises EngineError. Raises its last one."""

        async def tried() -> Completion:  # tenacity awaits coroutine functions only
            return await once()

        async with self._places:
            try:
                completion: Completion = await retrying(self._policy(), sleep=self._sleep)(tried)
            except EngineError as error:
                if error.reason == NOT_READY and not self.problem:
                    self.problem = told(str(error))
                    log.error("language_engine_refused", engine=self._engine, problem=self.problem)
                raise
        self.problem = ""
        return completion

    def _policy(self) -> RetryPolicy:
        patience = self._patience_seconds
        rpc = current_rpc()
        remaining = rpc.remaining_seconds() if rpc is not None else None
        if remaining is not None:
            patience = min(patience, max(0.0, remaining - _ANSWER_SECONDS))
        return RetryPolicy(_ATTEMPTS, 0.5, 10.0, patience, _may_pass)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, EngineError) and error.transient and error.reason != NOT_READY


def told(text: str) -> str:
    """Return what a provider says as one line of bounded length."""
    return " ".join(text[: 4 * _MOST_TOLD].split())[:_MOST_TOLD]


def priced(input_tokens: int, output_tokens: int, input_micros: int, output_micros: int) -> EngineUsage:
    """Return the usage of so many tokens, at prices of a million tokens each, in millionths of a US dollar.

    A price below 0 is not known.
    """
    cost = (input_tokens * max(0, input_micros) + output_tokens * max(0, output_micros)) / 1_000_000
    unpriced = min(input_micros, output_micros) < 0
    return EngineUsage(0.0, input_tokens, output_tokens, cost_micros=round(cost), unpriced=unpriced)
