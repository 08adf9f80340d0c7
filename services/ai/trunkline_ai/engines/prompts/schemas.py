"""Holding a model's answer to its JSON schema: the keywords that the prompts here use, and no others."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "number": (int, float), "integer": (int,),
}  # fmt: skip

_HALF = re.compile("[\ud800-\udfff]")


def problem_of(value: Any, schema: Mapping[str, Any], place: str = "the answer") -> str:
    """Say where a value breaks a schema; empty if nowhere. Never quotes the value: it may hold what people said.

    A number out of its range breaks nothing: see `within`.
    """
    if not _is_a(value, schema["type"]):
        return f"{place} is not of type {schema['type']}"
    if isinstance(value, str) and _HALF.search(value):
        return f"{place} holds half a character"  # which JSON may spell, and no message or store takes
    if "enum" in schema and value not in schema["enum"]:
        return f"{place} is none of the allowed values"
    if "minimum" in schema and not value <= math.inf:  # NaN, which Python's JSON reads
        return f"{place} is no number"
    for index, item in enumerate(value if "items" in schema else ()):
        if problem := problem_of(item, schema["items"], f"{place}[{index}]"):
            return problem
    for name, inner in schema.get("properties", {}).items():
        if name not in value:
            return f"{place} has no {name}"
        if problem := problem_of(value[name], inner, f"{place}.{name}"):
            return problem
    return ""


def within(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return a value that keeps to a schema, with each number that is out of its range at the end of it."""
    if "minimum" in schema:
        held = min(max(value, schema["minimum"]), schema["maximum"])
        return int(held) if schema["type"] == "integer" else held
    if "items" in schema:
        return [within(item, schema["items"]) for item in value]
    if "properties" in schema:
        return value | {name: within(value[name], inner) for name, inner in schema["properties"].items()}
    return value


def _is_a(value: Any, kind: str) -> bool:
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind]) and not isinstance(value, bool)


def record(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def number(least: float, most: float) -> dict[str, Any]:
    """Return the schema of a number."""
    return {"type": "number", "minimum": least, "maximum": most}


def integer(least: int, most: int) -> dict[str, Any]:
    """Return the schema of a whole number."""
    return {"type": "integer", "minimum": least, "maximum": most}


def one_of(*values: str) -> dict[str, Any]:
    """Return the schema of a label."""
    return {"type": "string", "enum": list(values)}


def array(items: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a list."""
    return {"type": "array", "items": dict(items)}


TEXT: Mapping[str, Any] = {"type": "string"}
