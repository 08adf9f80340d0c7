"""Reads the path templates of google.api.http: `/v1/{name=tenants/*/sources/*}:rotateSecret`.

google.api_core.path_template matches one template against one path; a router needs a template's parts, to
order templates by how specific they are and to tell which of them conflict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

ONE = "*"
REST = "**"

_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()+,;=@%-]+")
_FIELD_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_SLASH = re.compile("(%2[Ff])")


class TemplateError(ValueError):
    """A template does not follow the grammar of google/api/http.proto."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A field that the path sets: `field` is its dotted path, `start` and `end` the segments that make it.

    `end` is None when it takes the rest of the path.
    """

    field: str
    start: int
    end: int | None
    whole: bool
    """One segment is decoded wholly; of more than one, `%2F` stays as it is, to be told from `/`."""

    def value(self, segments: list[str]) -> str:
        """Return the field's text. Raises UnicodeDecodeError for escapes that are not UTF-8."""
        text = "/".join(segments[self.start : self.end])
        if "%" not in text:
            return text
        if self.whole:
            return unquote(text, errors="strict")
        return "".join(
            part if i % 2 else unquote(part, errors="strict") for i, part in enumerate(_SLASH.split(text))
        )


@dataclass(frozen=True, slots=True)
class Template:
    """A template's parts: `segments` are literals, `*` or, as the last, `**`; `verb` is empty or a literal."""

    text: str
    segments: tuple[str, ...]
    variables: tuple[Variable, ...]
    verb: str


def parse(text: str) -> Template:
    """Return the parts of a template. Raises TemplateError that quotes it."""
    if not text.startswith("/"):
        raise TemplateError(f"{text!r}: a template begins with a slash")
    path, colon, verb = text[1:].partition(":")
    if colon and not _LITERAL.fullmatch(verb):
        raise TemplateError(f"{text!r}: {verb!r} is not a verb")
    segments: list[str] = []
    variables: list[Variable] = []
    for part in _split(path, text):
        if not part.startswith("{"):
            segments.append(_segment(part, text))
            continue
        if not part.endswith("}"):
            raise TemplateError(f"{text!r}: {part!r} is not closed")
        field, equals, pattern = part[1:-1].partition("=")
        if not _FIELD_PATH.fullmatch(field):
            raise TemplateError(f"{text!r}: {field!r} is not a field path")
        inner = [_segment(s, text) for s in pattern.split("/")] if equals else [ONE]
        start = len(segments)
        segments.extend(inner)
        end = None if inner[-1] == REST else len(segments)
        variables.append(Variable(field, start, end, whole=inner == [ONE]))
    if REST in segments[:-1]:
        raise TemplateError(f"{text!r}: ** is allowed only at the end")
    names = [variable.field for variable in variables]
    if len(set(names)) != len(names):
        raise TemplateError(f"{text!r}: a field is bound twice")
    return Template(text, tuple(segments), tuple(variables), verb)


def _split(path: str, text: str) -> list[str]:
    """Split at the slashes that are outside of variables."""
    parts, depth, part = [], 0, ""
    for character in path:
        if character == "/" and depth == 0:
            parts.append(part)
            part = ""
            continue
        depth += (character == "{") - (character == "}")
        if depth not in (0, 1):
            raise TemplateError(f"{text!r}: variables do not nest")
        part += character
    return [*parts, part]


def _segment(part: str, text: str) -> str:
    if part in (ONE, REST) or _LITERAL.fullmatch(part):
        return part
    raise TemplateError(f"{text!r}: {part!r} is not a segment")
