"""The settings of an OpenAI-compatible endpoint, TRUNKLINE_AI_OPENAI_*."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.settings import setting

from trunkline_ai.engines.limits import RemoteLimits

SCHEMA = "schema"
"""The answer keeps to the schema: OpenAI, vLLM, llama.cpp, and Ollama do this."""
OBJECT = "object"
"""The answer is any JSON object; the instructions hold the schema."""
TEXT = "text"
"""The endpoint knows neither; the instructions hold the schema."""


def _model(text: str) -> None:
    if not (0 < len(text) <= 200 and text.isprintable() and " " not in text):
        raise ValueError("must be a model's name, of up to 200 characters without spaces")


def _key(text: str) -> None:
    if text and not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("must be a key of printable letters without spaces, or empty")


@dataclass(frozen=True, kw_only=True)
class OpenAiSettings(RemoteLimits):
    """Which endpoint is asked, for which model, and how much at once."""

    url: str = setting(
        "https://api.openai.com/v1",
        "the endpoint, which /chat/completions follows",
        form=forms.WEB,
    )
    key: str = setting(
        "",
        "the key, sent as a bearer token; empty: none is sent",
        secret=True,
        form=forms.Form("a key without spaces, or empty", _key),
    )
    model: str = setting("gpt-4.1-mini", "the model", form=forms.Form("a model's name", _model))
    inside: bool = setting(
        False,
        "whether the endpoint is inside your own network: then conversations of tenants with the policy private are "
        "sent to it",
        form=forms.SWITCH,
    )
    answer_form: str = setting(
        SCHEMA,
        "how the endpoint is held to JSON: to the schema, to any object, or, with text, not at all",
        choices=(SCHEMA, OBJECT, TEXT),
    )
