"""How one setting is declared, and how its text becomes a value."""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trunkline_runtime.forms import Form

_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")


class _Required(enum.Enum):
    REQUIRED = "required"


REQUIRED = _Required.REQUIRED


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What is known of a field beside its type and its default."""

    doc: str
    secret: bool = False
    by_service: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    form: Form | None = None
    name: str = ""

    def allowed(self) -> str:
        """Return what is allowed beside the type: choices, bounds, form; empty for anything."""
        if self.choices:
            return ", ".join(self.choices)
        if self.least is not None and self.most is not None:
            return f"{plain(self.least)} to {plain(self.most)}"
        if self.least is not None:
            return f"{plain(self.least)} or more"
        if self.most is not None:
            return f"{plain(self.most)} or less"
        return self.form.allowed if self.form else ""


def plain(number: float) -> str:
    """Return a bound as people write it: 536870912, not 5.36871e+08."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def setting(
    default: Any = REQUIRED,
    doc: str = "",
    *,
    secret: bool = False,
    by_service: Mapping[str, Any] | None = None,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
    form: Form | None = None,
    name: str = "",
) -> Any:
    """Declare a field of a config dataclass (use `@dataclass(frozen=True, kw_only=True)`).

    `doc` is one sentence with the unit. A secret is hidden in repr and can also be given as `<NAME>_FILE`.
    `by_service` gives defaults per service; `choices`, `least`, `most` and `form` (forms.py) say what is allowed. A
    number has both bounds: `most` is what the rest of the suite was tested with. `name` is the end of the variable's
    name, where operators know the setting by another one than its field's."""
    facts = Setting(doc, secret, dict(by_service or {}), choices, least, most, form, name)
    if default is REQUIRED:
        return dataclasses.field(repr=not secret, metadata={"setting": facts})
    return dataclasses.field(default=default, repr=not secret, metadata={"setting": facts})


def of_field(field: dataclasses.Field[Any]) -> Setting:
    """Return how a field was declared; a plain dataclass field is a setting without a word."""
    facts = field.metadata.get("setting")
    return facts if isinstance(facts, Setting) else Setting("")


def convert(text: str, kind: Any, facts: Setting) -> Any:
    """Return the value that a text stands for. Raises ValueError that says what is allowed."""
    if not facts.secret:
        _check_bare(text)
    value = _typed(text, kind)
    if facts.choices and value not in facts.choices:
        raise ValueError(f"must be one of {', '.join(facts.choices)}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = facts.least, facts.most
        if (low is not None and value < low) or (high is not None and value > high):
            raise ValueError(f"must be {facts.allowed()}")
    if facts.form is not None:
        facts.form.check(value)
    return value


def _check_bare(text: str) -> None:
    """Refuse what a file of settings may leave around a value: a path would be made by that name."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    if quoted or text != text.strip() or not text.isprintable():
        raise ValueError("must not have quotes or spaces around it, or line breaks")


def _typed(text: str, kind: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(kind) if arg is not type(None)]
        return None if not text else _typed(text, inner[0])
    if origin is tuple:
        item = typing.get_args(kind)[0]
        return tuple(_typed(part.strip(), item) for part in text.split(",") if part.strip())
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in _TRUE or text.lower() in _FALSE:
            return text.lower() in _TRUE
        raise ValueError("must be true or false")
    if kind is int:
        return _number(text, int, "a whole number")
    if kind is float:
        value = _number(text, float, "a number")
        if not math.isfinite(value):
            raise ValueError("must be a number")
        return value
    if kind is Path:
        if not text:
            raise ValueError("must be a path")
        return Path(text)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"must be one of {', '.join(str(m.value) for m in kind)}") from None
    raise TypeError(f"a setting cannot be of type {kind}")


def _number(text: str, kind: type[Any], what: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"must be {what}") from None
