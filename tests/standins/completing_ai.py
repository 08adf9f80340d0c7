"""A model that writes the least that keeps to any schema: false, empty, and nought.

TRUNKLINE_AI_ENGINE=tests.standins.completing_ai:create, started from the repository's root.
"""

import json

from trunkline_ai.engines.base import Completion, LanguageCapabilities
from trunkline_runtime.engines.base import EngineUsage


def least(schema):
    """The least value of a schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "object":
        return {name: least(inner) for name, inner in schema["properties"].items()}
    return {"array": [], "string": "", "number": 0.0, "integer": 0}[schema["type"]]


class LeastEngine:
    name = "completing/standin"
    problem = ""
    capabilities = LanguageCapabilities(languages=frozenset({"en", "es"}))

    def __init__(self):
        self.prompts = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def complete(self, prompt, schema):
        self.prompts.append(prompt)
        text = json.dumps(least(schema))
        read, wrote = len((prompt.instructions + prompt.data).split()), len(text.split())
        return Completion(self.name, text, usage=EngineUsage(0.0, read, wrote, cost_micros=7))


def create():
    return LeastEngine()
