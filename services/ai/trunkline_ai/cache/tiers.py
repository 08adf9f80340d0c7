"""The answers of all models: looked for in memory, then in Redis, and erased in both."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Self

from cachetools import LRUCache, TTLCache
from trunkline_runtime.engines.base import EngineUsage
from trunkline_runtime.flights import Flights
from trunkline_runtime.observe.metrics import counter, gauge

from trunkline_ai.cache.answers import MOST_BYTES, Answer
from trunkline_ai.cache.keys import Question, question_of
from trunkline_ai.cache.memory import MemoryAnswers
from trunkline_ai.cache.scripts import Scripts, is_script, text_of
from trunkline_ai.cache.settings import CacheSettings
from trunkline_ai.cache.shared import SharedAnswers, erasure_of_mark, key_of_mark, mark
from trunkline_ai.engines.base import Completion, Prompt

SWEEP_SECONDS = 60.0
"""How often other replicas' erasures are looked for."""
_SHARE_OF_SCRIPTS = 8
"""Robocalls get one part of the memory in so many."""
_MOST_BILLS = 10_000
_MOST_ERASED = 100_000
# Replicas' clocks differ, and a look may fail.
_LOOK_BACK_SECONDS = 600.0
_lookups = counter(
    "trunkline_ai_cache_lookups_total",
    "Questions to models, by who answered: memory, redis, similar (a robocall like an earlier one), joined (another "
    "asker's answer that was under way), or miss (the model)",
    ["result"],
)
# Without a question, a rate is 0 and not unknown.
for _result in ("memory", "redis", "similar", "joined", "miss"):
    _lookups.labels(_result)
_saved = counter(
    "trunkline_ai_cache_saved_micros_total",
    "What answers that were given again cost the first time, in millionths of a US dollar",
)
_bytes = gauge("trunkline_ai_cache_memory_bytes", "Memory that kept answers take, about")


class AnswerCache:
    """What the service's models share. An async context manager: leaving it ends what still asks.

    `secret` is a text that all replicas of this service know, and nobody else: keys derive from it. `clock` is of Unix
    seconds.
    """

    def __init__(
        self, settings: CacheSettings, secret: Callable[[], str], *, clock: Callable[[], float] = time.time
    ) -> None:
        seconds = settings.hours * 3600
        self.enabled = seconds > 0 and bool(settings.memory_bytes or settings.redis)
        self.flights: Flights[bytes, Completion] = Flights()
        self._clock = clock
        self._secret = secret
        of_scripts = settings.memory_bytes // _SHARE_OF_SCRIPTS if settings.similar else 0
        self._memory = MemoryAnswers(settings.memory_bytes - of_scripts, seconds, clock)
        self._scripts = Scripts(of_scripts, seconds, clock) if of_scripts else None
        shared = self.enabled and settings.redis
        self._shared = (
            SharedAnswers(settings.redis, seconds, secret, clock) if shared and settings.redis else None
        )
        self._bills: LRUCache[bytes, EngineUsage] = LRUCache(_MOST_BILLS)
        self._erased: TTLCache[str, bool] = TTLCache(_MOST_ERASED, max(seconds, 1.0), clock)
        self._seen: TTLCache[tuple[str, float], bool] = TTLCache(_MOST_ERASED, 2 * _LOOK_BACK_SECONDS, clock)
        self._owed: list[tuple[str, list[str] | None, bool, set[bytes]]] = []
        self._looked_at = clock()
        self._beside: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Import the client of Redis, so that no request waits for it."""
        if self._shared is not None:
            await asyncio.to_thread(importlib.import_module, "redis.asyncio")
        _bytes.set_function(lambda: self._memory.size + (self._scripts.size if self._scripts else 0))
        return self

    async def __aexit__(self, *raised: Any) -> None:
        """End what asks, and finish what is being written."""
        await self.flights.close()
        if self._beside:
            await asyncio.wait(self._beside)
        if self._shared is not None:
            await self._shared.close()
        _bytes.set_function(lambda: 0.0)

    def question(self, prompt: Prompt, schema: Mapping[str, Any], engine: str) -> Question:
        """Return what the cache knows of a prompt to the engine of that name."""
        return question_of(prompt, schema, engine, self._secret())

    def remembered(self, question: Question) -> Completion | None:
        """Return this process's own answer to the same question."""
        answer = self._memory.get(question.key)
        return None if answer is None else _given("memory", answer)

    async def found(self, question: Question) -> Completion | None:
        """Return the answer that is in Redis, or that of a robocall like this one."""
        if self._shared is not None:
            answer = await self._shared.get(question.tenant, question.key, question.call)
            if answer is not None and not self._is_erased(question):
                self._memory.put(question.key, question.tenant, answer)
                return _given("redis", answer)
        text = text_of(question.family, question.words) if self._scripts is not None else None
        if text is not None and self._scripts is not None and (alike := self._scripts.find(text)):
            answer, similarity = alike
            return _given("similar", answer, similarity)
        _lookups.labels("miss").inc()
        return None

    def joined(self) -> None:
        """Count an asker that waited for another's answer."""
        _lookups.labels("joined").inc()

    def keep(self, question: Question, completion: Completion) -> None:
        """Keep an answer that is whole and keeps to its schema."""
        if len(completion.text.encode()) > MOST_BYTES or self._is_erased(question):
            return
        answer = Answer(completion.engine, completion.text, self._clock(), completion.usage.cost_micros)
        self._memory.put(question.key, question.tenant, answer)
        if self._shared is not None:
            self._by_the_way(self._shared.put(question.tenant, question.key, question.call, answer))
        if self._scripts is not None and is_script(completion.text):
            text = text_of(question.family, question.words)
            if text is not None:
                self._scripts.add(text, question.tenant, question.call, answer)

    def served(self, question: Question) -> None:
        """Note that the answer to a question served its call, by which it is erased."""
        new = self._memory.serves(question.key, question.call)
        if new and question.call and self._shared is not None:
            self._by_the_way(self._shared.serves(question.tenant, question.key, question.call))

    def bill(self, question: Question, usage: EngineUsage) -> None:
        """Write down what an answer took, for the first asker who gets it: the one that asked may have given up."""
        self._bills[question.key] = usage

    def billed(self, question: Question, completion: Completion) -> Completion:
        """Return the answer with its bill, for whoever gets it first."""
        usage = self._bills.pop(question.key, None)
        if usage is None:
            return completion
        return Completion(completion.engine, completion.text, completion.finish, usage)

    async def forget(self, tenant: str, calls: Collection[str] | None = None) -> None:
        """Let go for good of the answers that served these calls of a tenant, or of all that are the tenant's.

        What Redis could not be told is told at a later sweep.
        """
        await self._let_go(tenant, calls, for_good=True)

    async def drop(self, tenant: str, call: str) -> None:
        """Do the same for one call, which may be asked about again."""
        await self._let_go(tenant, [call], for_good=False)

    async def _let_go(
        self, tenant: str, calls: Collection[str] | None, *, for_good: bool, known: Collection[bytes] = ()
    ) -> None:
        keys = {*known, *self._let_go_here(tenant, calls, for_good=for_good)}
        if self._shared is None:
            return
        if self._beside:  # what is being written of these answers
            await asyncio.wait(tuple(self._beside))
        found = await self._shared.forget(tenant, calls, keys, for_good=for_good)
        if found is None:
            self._owed.append((tenant, None if calls is None else list(calls), for_good, keys))
        for key in found or ():  # what served the call in another replica first
            self._memory.drop(key)

    async def sweep(self) -> None:
        """Let go of what is over, and of what other replicas were told to erase."""
        self._memory.expire()
        if self._scripts is not None:
            self._scripts.expire()
        if self._shared is None:
            return
        owed, self._owed = self._owed, []
        for tenant, calls, for_good, keys in owed:
            await self._let_go(tenant, calls, for_good=for_good, known=keys)
        now = self._clock()
        for told, at in await self._shared.erased(self._looked_at - _LOOK_BACK_SECONDS):
            if (told, at) in self._seen:
                continue
            self._seen[told, at] = True
            if (key := key_of_mark(told)) is not None:
                self._memory.drop(key)
            else:
                tenant, calls, for_good = erasure_of_mark(told)
                self._let_go_here(tenant, calls, for_good=for_good)
        self._looked_at = now

    def _let_go_here(self, tenant: str, calls: Collection[str] | None, *, for_good: bool) -> list[bytes]:
        """Let go in this process; the keys that it knew."""
        if for_good:
            marks = [mark(tenant)] if calls is None else [mark(tenant, call) for call in calls]
            if all(one in self._erased for one in marks):
                return []
            self._erased.update(dict.fromkeys(marks, True))
        if self._scripts is not None:
            self._scripts.forget(tenant, calls)
        return self._memory.forget(tenant, calls)

    def _is_erased(self, question: Question) -> bool:
        """Tell whether nothing is to be kept for a question any more. Neither tenants nor calls come back."""
        return mark(question.tenant) in self._erased or mark(question.tenant, question.call) in self._erased

    def _by_the_way(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what no asker waits for."""
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)


def _given(result: str, answer: Answer, similarity: float = 0.0) -> Completion:
    _lookups.labels(result).inc()
    _saved.inc(answer.cost_micros)
    return answer.given(similarity)
