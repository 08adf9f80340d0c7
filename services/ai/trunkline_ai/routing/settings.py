"""Which engines analyse, which of them is asked, and the settings of each: a part of TRUNKLINE_AI_*."""

from __future__ import annotations

from dataclasses import dataclass, field

from trunkline_runtime import forms
from trunkline_runtime.engines.settings import EngineSettings
from trunkline_runtime.settings import setting

from trunkline_ai.engines.openai.settings import OpenAiSettings
from trunkline_ai.engines.vertex.settings import VertexSettings

LOCAL = "local"
OPENAI = "openai"
VERTEX = "vertex"

QUALITY = "quality"
BALANCED = "balanced"
CHEAP = "cheap"
PRIVATE = "private"


@dataclass(frozen=True, kw_only=True)
class LanguageEngineSettings(EngineSettings):
    """What the service is told about its engines."""

    engines: tuple[str, ...] = setting(
        (LOCAL,),
        "the analysis engine: local, vertex (Gemini), openai (any endpoint that speaks its protocol), or "
        "module:factory of your own engine; or several, comma-separated, the best first: the next one answers while "
        "one can't, and local is always the last",
        form=forms.plug_ins(LOCAL, VERTEX, OPENAI),
        name="engine",
    )
    policy: str = setting(
        QUALITY,
        "how an engine is chosen for a conversation, if the tenant's settings don't say this: quality (the order of "
        "the engines), balanced (local for what is simple), cheap (the cheapest one that analyses the language), or "
        "private (engines inside your network only)",
        choices=(QUALITY, BALANCED, CHEAP, PRIVATE),
    )
    complex_from: float = setting(
        0.35,
        "the complexity, 0 to 1, from which the policy balanced asks the other engines before local",
        least=0,
        most=1,
    )
    engine_patience_seconds: float = setting(
        120.0,
        "how long an engine of your own can take for an answer before another one is asked",
        least=0.1,
        most=3_600,
    )
    openai: OpenAiSettings = field(default_factory=OpenAiSettings)
    vertex: VertexSettings = field(default_factory=VertexSettings)
