"""A model that never sees personal data: it gets placeholders, and its answer gets the words back."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trunkline_words.personal.placeholders import Redaction

from trunkline_ai.engines.base import CompletingEngine, Completion, Prompt, SpeakerRole, Turn
from trunkline_ai.engines.prompts.fence import fenced
from trunkline_ai.engines.wrapped import Wrapped

_EXPLAINED = """
In the conversation, personal data is replaced by placeholders in square brackets, such as [NAME_1] or [PHONE_2]. The
word says what was said there, and the same placeholder is the same thing. Treat a placeholder as what it stands for.
Where you name or quote it, write it exactly as it is. Never make one up, and never guess what it stands for. For an
entity, both text and value are the placeholder.
"""
_FENCED = re.compile(r"(?<!\\)\\u005b([A-Z_]{3,12}\d{1,6}\])")
_VALUE = "value"
"""The field of an answer that holds a normal form."""


class RedactedEngine(Wrapped[CompletingEngine]):
    """Asks a model about a prompt whose conversation is redacted as the prompt says.

    A model inside of the suite sees the words as they are. What is around the model, such as a cache, sees no personal
    data either.
    """

    async def complete(self, prompt: Prompt, schema: Mapping[str, Any]) -> Completion:
        """Answer a prompt. Raises EngineError."""
        if not prompt.redacted or self.capabilities.inside:
            return await self.engine.complete(_explained(prompt), schema)
        redaction, data = await asyncio.to_thread(_redacted, prompt)
        if not redaction.placeholders:
            return await self.engine.complete(_explained(prompt), schema)
        asked = replace(prompt, instructions=prompt.instructions + _EXPLAINED, data=data)
        completion = await self.engine.complete(asked, schema)
        text = await asyncio.to_thread(_restored, completion.text, schema, redaction)
        return replace(completion, text=text)


def _explained(prompt: Prompt) -> Prompt:
    """Return a prompt that explains the placeholders of its conversation, if that was stored with some."""
    if not _FENCED.search(prompt.data):
        return prompt
    return replace(prompt, instructions=prompt.instructions + _EXPLAINED)


def _redacted(prompt: Prompt) -> tuple[Redaction, str]:
    """Return a prompt's data with placeholders. Data that isn't a conversation's JSON is one turn of nobody."""
    kinds = prompt.redacted
    told = _json(prompt.data)
    turns = _turns(told)
    if turns is None:
        redaction = Redaction([Turn(SpeakerRole.UNKNOWN, prompt.data)], kinds)
        return redaction, redaction.texts[0]
    redaction = Redaction(turns, kinds)
    for turn, text in zip(told["turns"], redaction.texts, strict=True):
        turn["text"] = text
    return redaction, _with_plain_marks(fenced(told), redaction)


def _with_plain_marks(data: str, redaction: Redaction) -> str:
    """Give placeholders their brackets again, which the fence escapes as what a chat template may read."""
    ours = redaction.placeholders
    return _FENCED.sub(lambda found: f"[{found[1]}" if f"[{found[1]}" in ours else found[0], data)


def _turns(told: Any) -> list[Turn] | None:
    if not isinstance(told, dict) or not isinstance(told.get("turns"), list):
        return None
    try:
        return [Turn(SpeakerRole(turn["speaker"]), str(turn["text"])) for turn in told["turns"]]
    except (KeyError, TypeError, ValueError):
        return None


def _restored(text: str, schema: Mapping[str, Any], redaction: Redaction) -> str:
    """Return a model's answer with the words back in its strings; what isn't JSON is left to its reader as it is."""
    value = _json(text)
    if value is None:
        return text
    try:
        return json.dumps(_walked(value, schema, redaction.restored), ensure_ascii=False)
    except RecursionError:  # nested so deeply, it keeps to no schema: its reader refuses it
        return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _walked(value: Any, schema: Mapping[str, Any], restored: Callable[..., str], name: str = "") -> Any:
    """Return a JSON value with each string restored; names of fields stay.

    A field that the schema does not name is left out. Nobody reads it, and it may be nested as deeply as a model likes.
    """
    if isinstance(value, str):
        return restored(value, normal=name == _VALUE)
    if isinstance(value, list):
        return [_walked(one, schema.get("items", {}), restored) for one in value]
    if isinstance(value, dict):
        fields = schema.get("properties")
        return {
            key: _walked(one, (fields or {}).get(key, {}), restored, key)
            for key, one in value.items()
            if fields is None or key in fields
        }
    return value
