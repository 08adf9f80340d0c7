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
    most_output_tokens: int = setting(
        2_000, "the most tokens of an answer; one that is cut there is not used", least=16, most=100_000
    )
    most_characters: int = setting(
        100_000, "how much of a conversation is sent, in characters", least=100, most=1_000_000
    )
    first_token_seconds: float = setting(
        20.0, "how long to wait for the first piece of an answer, and for each next one", least=0.1, most=600
    )
    request_seconds: float = setting(60.0, "how long an answer can take as a whole", least=0.1, most=3_600)
    input_price_micros: int = setting(
        -1,
        "the price of a million input tokens, in millionths of a US dollar; -1: as in the file of prices",
        least=-1,
        most=1_000_000_000,
    )
    output_price_micros: int = setting(
        -1, "the same, of a million output tokens", least=-1, most=1_000_000_000
    )
