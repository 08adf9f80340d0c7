"""What models behind a network have in common: limits, patience with a provider's trouble, and the set-up's problem."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass

from trunkline_runtime.engines.base import NOT_READY, EngineError, EngineUsage
from trunkline_runtime.engines.fairness import FairLanes
from trunkline_runtime.engines.hedging import Hedge
from trunkline_runtime.engines.rates import Rates
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import gauge
from trunkline_runtime.resilience import RetryPolicy, Sleep, retrying

from trunkline_ai.engines.base import Completion, Prompt
from trunkline_ai.engines.labels import CONTENT_BLOCKED
from trunkline_ai.engines.limits import RemoteLimits

log = get_logger(__name__)

_waiting = gauge(
    "trunkline_engine_waiting", "Requests that wait for a place of an engine, or for its limits", ["engine"]
)

QUOTA = "ENGINE_QUOTA"
UNREACHABLE = "ENGINE_UNREACHABLE"
TIMEOUT = "ENGINE_TIMEOUT"
REFUSED = "ENGINE_REFUSED"
"""The provider refuses the request itself, and would refuse it again."""
TOO_LONG = "CONVERSATION_TOO_LONG"
BLOCKED = CONTENT_BLOCKED
_ATTEMPTS = 10
_LETTERS_A_TOKEN = 4
_ANSWER_TOKENS = 400


class RemoteAsker:
    """Asks a provider as much as its limits allow, again while that may help. Nobody fails for waiting.

    Requests wait in their class, tenants in turns. A refusal that is about the set-up (key, project, model) is the
    `problem` until a request succeeds; requests go on, so that mending it is enough.
    """

    def __init__(self, engine: str, limits: RemoteLimits, sleep: Sleep = asyncio.sleep) -> None:
        """`engine` is the name for the log and the metrics."""
        self.problem = ""
        self._engine = engine
        self._rates = Rates(
            limits.requests_per_minute,
            limits.tokens_per_minute,
            limits.tenant_requests_per_minute,
            limits.tenant_tokens_per_minute,
            sleep=sleep,
        )
        self._lanes = FairLanes(limits.requests_at_once, self._rates)
        self._hedge = Hedge(engine, on=limits.hedged)
        self._policy = RetryPolicy(_ATTEMPTS, 0.5, 10.0, limits.patience_seconds, _may_pass)
        self._sleep = sleep

    async def ask(self, prompt: Prompt, once: Callable[[], Awaitable[Completion]]) -> Completion:
        """Return what `once` returns; it raises EngineError, with a message without content. Raises its last one.

        The caller's deadline has no part in it: an answer that comes late is kept for the next try.
        """
        tenant, expected = prompt.tenant_id, expected_tokens(prompt)
        again = False

        def place() -> AbstractAsyncContextManager[None]:
            return self._lanes.lane(tenant, priority=prompt.priority, size=expected)

        async def tried() -> Completion:  # tenacity awaits coroutine functions only
            nonlocal again
            if again:
                await self._rates.again(tenant, expected)
            again = True
            if prompt.may_ask is not None:
                await prompt.may_ask()
            return await self._hedge.ask(once, lambda: place() if self._lanes.free(tenant) else None)

        async with AsyncExitStack() as held:
            with _waiting.labels(self._engine).track_inprogress():
                await held.enter_async_context(place())
            try:
                completion: Completion = await retrying(self._policy, sleep=self._sleep)(tried)
            except EngineError as error:
                if error.reason == NOT_READY and not self.problem:
                    self.problem = str(error)  # no words of a provider's: they may repeat what it was asked
                    log.error("language_engine_refused", engine=self._engine, problem=self.problem)
                raise
        self.problem = ""
        if used := completion.usage.input_tokens + completion.usage.output_tokens:  # as usage_of bounds them
            self._rates.correct(tenant, used - expected)
        return completion


def expected_tokens(prompt: Prompt) -> int:
    """Guess what a prompt and its answer take, for the limits: corrected once the provider has counted."""
    return (len(prompt.instructions) + len(prompt.data)) // _LETTERS_A_TOKEN + _ANSWER_TOKENS


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, EngineError) and error.transient and error.reason != NOT_READY


@dataclass(frozen=True, slots=True)
class Counted:
    """What a provider says that an answer took, in tokens; 0 where it says nothing."""

    read: int = 0
    wrote: int = 0


def usage_of(
    limits: RemoteLimits, counted: Counted, sent: int, answer: str, thinking: int = 0
) -> EngineUsage:
    """Return what an answer took and costs. A provider is believed as far as what it counts can be true.

    A token that is read is one of the `sent` bytes at least, and no more are written than are asked for, of which
    `thinking` go before the answer. What it does not count is guessed by length; then what it costs is not known.
    """
    guessed = not counted.read or (bool(answer) and not counted.wrote)
    read = min(counted.read or sent // _LETTERS_A_TOKEN, sent)
    guess = -(-len(answer.encode("utf-8", "replace")) // _LETTERS_A_TOKEN)
    wrote = min(counted.wrote or guess, limits.most_output_tokens + thinking)
    prices = (limits.input_price_micros, limits.output_price_micros)
    return EngineUsage(
        input_tokens=read,
        output_tokens=wrote,
        cost_micros=_cost(limits, read, wrote),
        unpriced=min(prices) < 0 or (guessed and max(prices) > 0),
    )


def typical_price(limits: RemoteLimits) -> int:
    """Return what a usual analysis costs, in millionths of a US dollar: by it, engines are told cheap and dear."""
    return _cost(limits, 1_500, _ANSWER_TOKENS)


def _cost(limits: RemoteLimits, read: int, wrote: int) -> int:
    """Prices are of a million tokens; one below 0 is not known, and counts as 0."""
    cost = read * max(0, limits.input_price_micros) + wrote * max(0, limits.output_price_micros)
    return round(cost / 1_000_000)
