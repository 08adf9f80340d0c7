"""The chain of engines: the first that can answers, and the answer says which one was to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from trunkline_runtime.breakers import Breakers, CircuitOpen
from trunkline_runtime.engines.base import NOT_READY, EngineError, passed_over
from trunkline_runtime.errors import InvalidArgument
from trunkline_runtime.observe import logs

from trunkline_audio.engines.base import EngineResult, SpeechEngine
from trunkline_audio.media.prepared import RecordingFault

log = logs.get_logger(__name__)

TOO_LONG = "RECORDING_TOO_LONG"
"""Reason of the refusal of a recording that is longer than the engine takes."""
NO_REFUSALS: Mapping[str, EngineError] = MappingProxyType({})

Ask = Callable[[SpeechEngine], Awaitable[EngineResult]]
"""Has one engine transcribe the recording. Raises EngineError; what it raises beside that ends the chain."""


@dataclass(frozen=True)
class ChainAnswer:
    """What an engine of the chain heard, and whether another one was to be heard."""

    result: EngineResult
    wanted: str = ""
    """The engine that was to answer and could not, by its name in the chain; empty where the right one answered."""
    final: bool = False
    """Whether asking `wanted` again is of no use: it refused for good."""
    reason: str = ""
    """Why `wanted` could not answer."""


def is_outage(error: BaseException) -> bool:
    """Whether an engine itself cannot be had; what becomes of one recording says nothing of the others."""
    if isinstance(error, EngineError):
        return error.transient and not isinstance(error, RecordingFault) and not is_crash(error)
    return isinstance(error, TimeoutError)


def is_crash(error: EngineError) -> bool:
    """Whether a process of ours ended over a recording, which may be that recording's doing."""
    return error.reason.startswith("WORKER_")


class EngineChain:
    """Engines by their names in the setting, the preferred one first.

    A request may choose one; then only those behind it stand in for it, so that nobody's sound goes to an engine that
    stands before the chosen one. An engine that has a `problem`, or whose breaker is open, is passed over as long as
    another can answer; where none can, the chosen one is asked and says why.
    """

    def __init__(
        self,
        engines: Mapping[str, SpeechEngine],
        *,
        failures: int = 3,
        rest_seconds: float = 30.0,
        patience_seconds: float = 120.0,
    ) -> None:
        """Leave an engine alone for `rest_seconds` after so many outages in a row.

        One that has another behind it may take `patience_seconds` for a recording, beside the recording's own length.
        """
        self._engines = dict(engines)
        self._patience_seconds = patience_seconds
        self._breakers = Breakers(failures, rest_seconds, tuple(engines), outage=is_outage)

    @property
    def engines(self) -> Mapping[str, SpeechEngine]:
        """The engines by the names that may be chosen, the preferred one first."""
        return self._engines

    def chosen(self, name: str, whose: str = "") -> SpeechEngine:
        """Return the engine that is asked first. Raises InvalidArgument("engine") for a name that is not there.

        `whose` begins the message, if the name isn't the request's own.
        """
        if not name:
            return next(iter(self._engines.values()))
        if name not in self._engines:
            allowed = ", ".join(self._engines)
            raise InvalidArgument("engine", f"{whose}must be one of {allowed}", reason="ENGINE_UNKNOWN")
        return self._engines[name]

    async def answer(
        self,
        ask: Ask,
        *,
        seconds: float,
        first: str = "",
        submits: bool = False,
        refusals: Mapping[str, EngineError] = NO_REFUSALS,
    ) -> ChainAnswer:
        """Return the answer of the first engine that can give one, about a recording of so many seconds.

        `first` is the engine that was chosen. With `submits`, an engine whose provider takes longer recordings in its
        own time is asked for those too. `refusals` are those of engines that need not be asked. Raises EngineError: one
        that is transient, as long as any engine may answer later.
        """
        names = self._behind(first)
        able = [name for name in names if name not in refusals and not self._engines[name].problem]
        errors: dict[str, EngineError] = {}
        for name in names:
            if (refusal := refusals.get(name)) is not None:
                errors[name] = refusal
                continue
            if able and name not in able:
                errors[name] = EngineError(NOT_READY, self._engines[name].problem, transient=True)
                continue
            rest = able or names
            try:
                result = await self._asked(
                    name, ask, seconds, alone=len(names) == 1, last=name == rest[-1], submits=submits
                )
            except RecordingFault:
                raise
            except EngineError as error:
                errors[name] = error
                log.warning("enginepassed_over", engine=name, reason=error.reason, transient=error.transient)
                continue
            for passed, why in errors.items():
                passed_over.labels(passed, why.reason).inc()
            return _answer(result, errors)
        raise _told(errors)

    async def ask_one(self, name: str, ask: Ask, seconds: float, *, submits: bool = False) -> EngineResult:
        """Have one engine answer, whatever is known of its state; `submits` as in `answer`. Raises EngineError."""
        return await self._asked(name, ask, seconds, alone=True, last=True, submits=submits)

    def _behind(self, first: str) -> list[str]:
        self.chosen(first)
        names = list(self._engines)
        return names[names.index(first) :] if first else names

    async def _asked(
        self, name: str, ask: Ask, seconds: float, *, alone: bool, last: bool, submits: bool = False
    ) -> EngineResult:
        engine = self._engines[name]
        most = engine.capabilities.longest_seconds
        if seconds > most and not (submits and engine.capabilities.submits):
            told = f"the recording has {seconds:.0f} s of sound, and {engine.name} takes at most {most:.0f} s"
            raise EngineError(TOO_LONG, told, transient=False)
        if alone:
            return await ask(engine)

        async def timed() -> EngineResult:
            # What a provider does in its own time has none that could be over.
            patient = last or seconds > most
            async with asyncio.timeout(None if patient else self._patience_seconds + seconds):
                return await ask(engine)

        try:
            return await self._breakers.call(name, timed)
        except CircuitOpen as is_open:
            told = f"{name} is not asked for a while after consecutive failures"
            raise EngineError(
                "ENGINE_LEFT_ALONE", told, transient=True, retry_after=is_open.retry_after
            ) from None
        except TimeoutError:
            raise EngineError("ENGINE_TIMEOUT", f"{name} did not answer in time", transient=True) from None


def _answer(result: EngineResult, errors: Mapping[str, EngineError]) -> ChainAnswer:
    for name, error in errors.items():
        if error.transient or not error.of_content:
            return ChainAnswer(result, wanted=name, final=not error.transient, reason=error.reason)
    return ChainAnswer(result)


def _told(errors: Mapping[str, EngineError]) -> EngineError:
    """Return what nobody's answer means: as long as one of the engines may answer yet, it is waited for."""
    return next((error for error in errors.values() if error.transient), None) or next(iter(errors.values()))
