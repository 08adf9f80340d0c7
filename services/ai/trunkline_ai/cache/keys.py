"""What makes two questions the same: the tenant, the model, its instructions, the schema, and the words."""

from __future__ import annotations

import contextlib
import hmac
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trunkline_runtime.digests import digest, laid

from trunkline_ai.engines.base import Prompt

_FORM = "1"


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt to a model, as the cache knows it."""

    tenant: str
    call: str
    """The call that asks; empty for none. Not part of what is the same."""
    key: bytes
    """Of everything that the answer depends on, and of the service's secret."""
    family: bytes
    """Of everything but the words."""
    words: str
    """What was said in all turns."""


def question_of(prompt: Prompt, schema: Mapping[str, Any], engine: str, secret: str) -> Question:
    """Return what the cache knows of a prompt to the engine of that name.

    Who reads the keys but doesn't know the `secret` can't tell whether words that he guesses were said.

    Spaces and the two spellings of an accented letter make no difference; case and punctuation do, since entities are
    quoted with them. A higher generation asks for a new answer, and is another question.
    """
    told: Any = prompt.data
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(prompt.data)
    told = _plain(told)
    turns = told.get("turns") if isinstance(told, dict) else None
    spoken = turns if isinstance(turns, list) else []
    words = " ".join(str(turn.get("text", "")) for turn in spoken if isinstance(turn, dict))
    beside = (
        {name: value for name, value in told.items() if name != "turns"} if isinstance(told, dict) else ""
    )
    asked = (
        _FORM, prompt.tenant_id, engine, prompt.name, prompt.instructions, _written(schema), str(prompt.generation),
    )  # fmt: skip
    return Question(
        prompt.tenant_id,
        prompt.call_id,
        hmac.digest(digest("questions", secret), laid("question", *asked, _written(told)), "sha256"),
        digest("family", *asked, _written(beside)),
        words,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFC", value).split())
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
