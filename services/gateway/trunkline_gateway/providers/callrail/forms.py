"""What a visitor typed into a web form: whose fields they are is guessed from what they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trunkline_gateway.providers.base import Malformed
from trunkline_gateway.providers.payload import Payload
from trunkline_gateway.providers.scalars import CONTENT_MOST

_PHONE = ("phone", "mobile", "cell", "telephone", "whatsapp")
_NAME = ("fullname", "yourname", "name", "customername", "contactname")
_FIRST, _LAST = ("firstname", "fname", "givenname"), ("lastname", "lname", "surname", "familyname")
_MESSAGE = (
    "message", "comment", "question", "inquir", "enquir", "description", "detail", "request", "howcanwehelp", "note",
)  # fmt: skip
_FIELDS_MOST = 100
_VALUE_MOST = 10_000
_NUMBER_MOST = 64
_DIGITS_LEAST = 5


@dataclass(frozen=True, slots=True)
class SubmittedForm:
    """What a form says; None is not stated."""

    phone: str | None
    email: str | None
    name: str | None
    text: str


def read(payload: Payload, member: str) -> SubmittedForm:
    """Read the form that stands under a member of a payload."""
    fields = _fields(payload, payload.members(member), member)
    phone = _taken(fields, _is_phone)
    email = _taken(fields, lambda name, value: ("email" in name or name == "mail") and "@" in value)
    first = _taken(fields, lambda name, _: name in _FIRST)
    last = _taken(fields, lambda name, _: name in _LAST)
    name = _taken(fields, lambda name, _: name in _NAME) or " ".join(part for part in (first, last) if part)
    words = [value for key, (_, value) in fields.items() if any(word in key for word in _MESSAGE)]
    if not words:  # no field is called a message: what else was filled in tells what is wanted
        words = [f"{label}: {value}" for label, value in fields.values()]
    text = payload.as_text("\n".join(words), f"the text of {member}", CONTENT_MOST)
    return SubmittedForm(phone, email, name or None, text)


def _fields(payload: Payload, members: Mapping[str, Any], member: str) -> dict[str, tuple[str, str]]:
    """Return label and value by the plain form of what a field is called."""
    found: dict[str, tuple[str, str]] = {}
    for label, value in payload.cut(list(members.items()), member, _FIELDS_MOST):
        try:
            text = payload.as_text(_joined(value), member, _VALUE_MOST) if value is not None else ""
        except Malformed:
            payload.warn(f"a field of {member} is no text; it was left out")
            continue
        key = "".join(letter for letter in label.lower() if letter.isalnum())
        if text and key not in found:
            found[key] = (label[:100], text)
    return found


def _taken(fields: dict[str, tuple[str, str]], fits: Callable[[str, str], bool]) -> str | None:
    """Take the first field whose name and value fit out of the others; its value."""
    for key, (_, value) in fields.items():
        if fits(key, value):
            return fields.pop(key)[1]
    return None


def _is_phone(name: str, value: str) -> bool:
    """Say whether it is a number to call: `phone_type` is none, nor is "call me" in a field for numbers."""
    called = name in ("tel", "number") or any(word in name for word in _PHONE)
    return (
        called and len(value) <= _NUMBER_MOST and sum(letter.isdigit() for letter in value) >= _DIGITS_LEAST
    )


def _joined(value: Any) -> Any:
    """Return the choices of a list as one text."""
    if not isinstance(value, list):
        return value
    return ", ".join(str(item) for item in value[:_FIELDS_MOST] if isinstance(item, str | int | float))
