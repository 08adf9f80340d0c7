"""The route of a conversation: engines, the best first and `local` last; the first that can answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from types import MappingProxyType

from trunkline.common.v1 import analysis_settings_pb2
from trunkline_runtime.engines.base import EngineError, passed_over
from trunkline_runtime.engines.fairness import FairLanes
from trunkline_runtime.language_tags import is_among
from trunkline_runtime.observe import logs, metrics

from trunkline_ai.engines.base import AnalysisResult, Context, LanguageEngine, Transcript
from trunkline_ai.engines.labels import CONTENT_BLOCKED
from trunkline_ai.routing.complexity import complexity_of, is_foreign
from trunkline_ai.routing.settings import BALANCED, CHEAP, LOCAL, PRIVATE, QUALITY

log = logs.get_logger(__name__)

BROKEN = "ENGINE_BROKEN"
"""The reason for passing over an engine that raised what is no EngineError: a fault of the engine's own."""

_routed = metrics.counter(
    "trunkline_analyses_routed_total",
    "Conversations by the policy, and by the engine that is best for them by it",
    ["policy", "engine"],
)
_POLICIES = {
    analysis_settings_pb2.ANALYSIS_POLICY_QUALITY: QUALITY,
    analysis_settings_pb2.ANALYSIS_POLICY_BALANCED: BALANCED,
    analysis_settings_pb2.ANALYSIS_POLICY_CHEAP: CHEAP,
    analysis_settings_pb2.ANALYSIS_POLICY_PRIVATE: PRIVATE,
}


@dataclass(frozen=True)
class Routed:
    """The result, None if what stands already is the best there is; `final`: asking again is of no use."""

    result: AnalysisResult | None
    final: bool
    refused: Mapping[str, str] = field(default_factory=dict)
    """The reasons of the engines that refuse this conversation for good, by their names in the setting."""


@dataclass(frozen=True)
class Route:
    """The names of engines, the best first; `own` is the local engine's answer, if it was needed to choose them."""

    names: tuple[str, ...]
    own: AnalysisResult | None = None


class Router:
    """Chooses a route for each conversation, and asks its engines in turn.

    | policy | the route |
    |---|---|
    | quality | the order of the setting |
    | balanced | `local` if the conversation is simple and `local` is sure of it; otherwise the order of the setting |
    | cheap | the engines that analyse the conversation's language, the cheapest first |
    | private | the order of the setting, without engines that are outside |

    Each ends in `local`. An engine without a queue of its own is asked about so many conversations at once, which wait
    by class and tenant.
    """

    def __init__(
        self,
        engines: Mapping[str, LanguageEngine],
        *,
        policy: str = QUALITY,
        complex_from: float = 0.35,
        at_once: int = 16,
    ) -> None:
        """`engines` by their names, the preferred first; LOCAL is among them. `complex_from` is for `balanced`."""
        self._engines = dict(engines)
        self._policy = policy
        self._complex_from = complex_from
        self._lanes = FairLanes(at_once)

    async def answer(
        self,
        transcript: Transcript,
        context: Context,
        *,
        standing: str = "",
        refused: Mapping[str, str] = MappingProxyType({}),
    ) -> Routed:
        """Have a conversation analysed: degraded, if it isn't the route's first engine that answers.

        With `standing`, the name of the engine whose degraded answer is kept already, only better ones are asked, and
        of those none that `refused` it for good then. An engine that blocks the content ends the route: no other
        engine gets it, except `local`. Raises EngineError.
        """
        policy = _POLICIES.get(context.settings.policy, self._policy)
        route = await self._route(policy, transcript, context)
        if not standing:
            _routed.labels(policy, route.names[0]).inc()
        errors: dict[str, EngineError] = {}
        for name in route.names:
            engine = self._engines[name]
            blocked = any(error.reason == CONTENT_BLOCKED for error in errors.values())
            final = bool(errors) and (blocked or not any(error.transient for error in errors.values()))
            if standing and errors and (name == LOCAL or engine.name == standing):
                return Routed(None, final, _for_good(errors))
            if blocked and name != LOCAL:
                continue
            if name in refused and name != LOCAL:
                errors[name] = EngineError(refused[name], "it refused this before", transient=False)
                continue
            own = route.own if name == LOCAL else None
            try:
                result = own or await self._asked(engine, transcript, context)
            except EngineError as error:
                errors[name] = error
                # The engine's words may quote the conversation: only that it failed is logged.
                log.warning(
                    "engine_failed", engine=engine.name, reason=error.reason, transient=error.transient
                )
                continue
            except Exception as error:
                if name == LOCAL:
                    raise
                # What broke once on these words breaks again on them: asking again would be paid for again.
                errors[name] = EngineError(BROKEN, "it broke", transient=False, of_content=False)
                log.error("engine_broke", engine=engine.name, error=type(error).__name__)
                continue
            for passed, why in errors.items():
                passed_over.labels(passed, why.reason).inc()
            reason = next(iter(errors.values())).reason if errors else ""
            made = replace(result, degraded=bool(errors), degraded_reason=reason, final=final)
            return Routed(made, final, _for_good(errors))
        raise next((error for error in errors.values() if error.transient), next(iter(errors.values())))

    async def _route(self, policy: str, transcript: Transcript, context: Context) -> Route:
        names = tuple(self._engines)
        if policy == PRIVATE:
            return Route(_up_to_local(name for name in names if self._engines[name].capabilities.inside))
        if policy == QUALITY or names == (LOCAL,):
            return Route(_up_to_local(names))
        own = await self._asked(self._engines[LOCAL], transcript, context)
        if policy == BALANCED:
            if complexity_of(transcript, context, own).score < self._complex_from:
                return Route((LOCAL,), own)
            return Route(_up_to_local(name for name in names if name != LOCAL), own)
        able = [name for name in names if self._analyses(name, context, own)]
        able.sort(key=lambda name: (self._engines[name].capabilities.price_micros, name != LOCAL))
        return Route(_up_to_local(able), own)

    def _analyses(self, name: str, context: Context, own: AnalysisResult) -> bool:
        """Whether an engine analyses the conversation's language."""
        if name == LOCAL:
            return not is_foreign(context, own)
        return is_among(context.language, self._engines[name].capabilities.languages)

    async def _asked(
        self, engine: LanguageEngine, transcript: Transcript, context: Context
    ) -> AnalysisResult:
        if engine.capabilities.queues:
            return await engine.analyze(transcript, context)
        async with self._lanes.lane(context.tenant_id, priority=context.priority):
            return await engine.analyze(transcript, context)


def _for_good(errors: Mapping[str, EngineError]) -> dict[str, str]:
    return {name: error.reason for name, error in errors.items() if not error.transient and error.of_content}


def _up_to_local(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names up to LOCAL, which always answers, and which ends them if it isn't among them."""
    return (*takewhile(lambda name: name != LOCAL, names), LOCAL)
