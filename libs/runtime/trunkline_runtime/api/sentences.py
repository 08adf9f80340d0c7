"""What a broken rule is called in words: whoever mistyped a name is not to read regular expressions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_ID = "[a-z0-9-]{2,40}"
_SINGULAR = {"analyses": "analysis", "apiKeys": "apiKey"}
_LANGUAGE = "^$|^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$"
_FORM = "must be of the form "
_PATTERNS = {
    f"^tenants/{_ID}/(events|sources)/{_ID}$": "must be of the form tenants/{tenant}/events/{event} or "
    "tenants/{tenant}/sources/{source}: an id is 2 to 40 of a-z, 0-9 and -",
    f"^$|^{_ID}$": "must be an id: 2 to 40 of a-z, 0-9 and -, or empty",
    f"^{_ID}$": "must be an id: 2 to 40 of a-z, 0-9 and -",
    "^[a-z][a-z0-9-]{1,39}$": "must be 2 to 40 of a-z, 0-9, and -, and begin with a letter",
    _LANGUAGE: "must be a BCP 47 language tag such as en-US, or empty",
    "^([A-Z]{2})?$": "must be a region of two capital letters such as US, or empty",
    "^$|^[0-9a-f]{64}$": "must be a SHA-256 of 64 digits 0-9 and a-f, or empty",
    "^(2[0-9]{3}-(0[1-9]|1[0-2]))?$": "must be a month such as 2026-11, or empty",
    "^[0-9]*$": "must be the cursor of a message of the stream, or empty",
    "^https?://": "must begin with http:// or https://",
    "^$|^https?://": "must begin with http:// or https://, or be empty",
    "^[A-Za-z0-9-]{1,64}$": "must be the name of a header: 1 to 64 letters, digits and -",
    "^[A-Za-z0-9-]{0,64}$": "must be the name of a header, at most 64 letters, digits and -, or empty",
    "^[A-Za-z0-9_-]{0,32}$": "must be at most 32 letters, digits, _ and -",
    "^[A-Za-z0-9_.-]{1,64}$": "must be 1 to 64 letters, digits, _, . and -",
    '^[^\\x00-\\x1f\\x7f"\\\\]+$': 'must have no control characters, no " and no \\\\',
    "^[a-z][a-z0-9_]{0,39}$": "must be 1 to 40 of a-z, 0-9 and _, a letter first",
    "^[A-Za-z0-9_.:]*$": "must be the name of an engine, such as google: letters, digits, _, . and :",
}


def sentence(violation: Any, message: Any) -> str:
    """Return what a violation of protovalidate's says of a message, for people."""
    proto = violation.proto
    if proto.rule_id == "string.pattern":
        pattern = str(violation.rule_value)
        if not violation.field_value:
            return required_sentence(pattern) or "is required"
        return pattern_sentence(pattern) or "does not have the required form"
    if proto.rule_id == "enum.not_in":
        return _refused_value(proto, message, violation.field_value, violation.rule_value)
    if proto.rule_id == "enum.defined_only":
        return _refused_value(proto, message, violation.field_value, ())
    if proto.rule_id == "string.min_len" and not violation.field_value:
        return "is required"
    if proto.rule_id == "string.in":
        return f"must be one of: {_listed(violation.rule_value)}"
    return str(proto.message or proto.rule_id)


def pattern_sentence(pattern: str) -> str:
    """Return what a pattern asks for; empty for one that nobody has put into words."""
    if pattern in _PATTERNS:
        return _PATTERNS[pattern]
    if pattern.startswith("^$|^tenants/"):
        return f"{pattern_sentence(pattern.removeprefix('^$|'))}, or empty"
    if not pattern.startswith("^tenants/"):
        return ""
    parts = pattern.removeprefix("^").removesuffix("$").split("/")
    form: list[str] = []
    for part in parts:
        if _ID in part:
            form.append("{" + _SINGULAR.get(form[-1], form[-1].removesuffix("s")) + "}")
        else:
            form.append(part)
    any_tenant = ", or tenants/-" if "|-" in pattern else ""
    return f"must be of the form {'/'.join(form)}{any_tenant}: an id is 2 to 40 of a-z, 0-9 and -"


def required_sentence(pattern: str) -> str:
    """Return what an empty text lacks that its pattern asks for; empty where nobody has put that into words."""
    _, form, asked = pattern_sentence(pattern).partition(_FORM)
    return f"is required: {asked.partition(': ')[0]}" if form else ""


def _listed(values: Iterable[str]) -> str:
    return ", ".join(value or "empty" for value in sorted(values, key=lambda value: not value))


def _refused_value(proto: Any, message: Any, value: Any, refused: Iterable[int]) -> str:
    field: Any = None
    descriptor = message.DESCRIPTOR
    for element in proto.field.elements:
        field = descriptor.fields_by_name[element.field_name]
        descriptor = field.message_type or descriptor
    names = field.enum_type.values_by_number if field is not None and field.enum_type is not None else {}
    if value in names and value:
        return f"cannot be {names[value].name}"
    left = [v.name for number, v in names.items() if number and number not in refused]
    return f"{'must be' if value else 'is required:'} one of {', '.join(left)}"
