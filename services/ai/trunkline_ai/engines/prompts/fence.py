"""The fence around what strangers said: a model gets it as JSON in which nothing that was said can end its string."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_ESCAPED = re.compile(
    r"[<>\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f]"
    r"|\[(?=/?[A-Za-z])"
)


def fenced(told: Mapping[str, Any]) -> str:
    """Return JSON of one line, in which marks that nobody sees, and what a chat template may read, are escaped.

    A server may read `<|im_end|>`, `</s>` or `[INST]` in a message as its own mark; JSON reads the escapes as the same
    text. None of the escaped characters is ever part of JSON itself.
    """
    return _ESCAPED.sub(_escape, json.dumps(told, ensure_ascii=False))


def _escape(found: re.Match[str]) -> str:
    return json.dumps(found.group())[1:-1] if ord(found.group()) > 0x7F else f"\\u{ord(found.group()):04x}"
