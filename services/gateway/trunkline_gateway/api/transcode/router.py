"""Finds the route of a method and a path in a trie of templates; the most specific template wins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trunkline_gateway.api.transcode.template import ONE, REST, Template

T = TypeVar("T")


class RouteConflict(ValueError):
    """Two routes take the same requests."""


@dataclass(frozen=True, slots=True)
class RouteMatch(Generic[T]):
    """A route, and what the path says of the request's fields, by dotted field path."""

    target: T
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Allowed:
    """The path is known, but not with this method; `methods` are those it is known with, in order."""

    methods: tuple[str, ...]


_Leaf = dict[str, tuple[Template, T]]
"""The routes that end at a node with one verb, by HTTP method."""


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: dict[str, _Node[T]] = field(default_factory=dict)
    one: _Node[T] | None = None
    rest: dict[str, _Leaf[T]] = field(default_factory=dict)
    ends: dict[str, _Leaf[T]] = field(default_factory=dict)


class PathRouter(Generic[T]):
    """Routes by template. At each segment from the left, a literal goes before `*`, and `*` before `**`."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._verbs: set[str] = set()

    def add(self, method: str, template: Template, target: T) -> None:
        """Add a route. Raises RouteConflict when another one takes the same requests."""
        node, rest = self._root, False
        for segment in template.segments:
            if segment == REST:
                rest = True
            elif segment == ONE:
                node.one = node.one or _Node()
                node = node.one
            else:
                node = node.literals.setdefault(segment, _Node())
        leaf = (node.rest if rest else node.ends).setdefault(template.verb, {})
        if method in leaf:
            raise RouteConflict(
                f"{method} {template.text} and {leaf[method][0].text} take the same requests: "
                f"{target} and {leaf[method][1]}"
            )
        leaf[method] = (template, target)
        if template.verb:
            self._verbs.add(template.verb)

    def find(self, method: str, path: str) -> RouteMatch[T] | Allowed | None:
        """Return the route of a path as it came, still percent-encoded; None when no template fits.

        Raises UnicodeDecodeError when the path's escapes are not UTF-8.
        """
        segments = path[1:].split("/")
        last, colon, verb = segments[-1].rpartition(":")
        if colon and verb in self._verbs:
            segments[-1] = last
        else:
            verb = ""
        allowed: dict[str, None] = {}
        for leaf in _leaves(self._root, segments, 0, verb):
            found = leaf.get(method)
            if found is not None:
                template, target = found
                return RouteMatch(target, {v.field: v.value(segments) for v in template.variables})
            allowed.update(dict.fromkeys(leaf))
        return Allowed(tuple(sorted(allowed))) if allowed else None


def _leaves(node: _Node[T], segments: list[str], at: int, verb: str) -> Iterator[_Leaf[T]]:
    """Yield what fits, the most specific first; deeper than the longest template it never goes."""
    if at == len(segments):
        if verb in node.ends:
            yield node.ends[verb]
    else:
        segment = segments[at]
        literal = node.literals.get(segment)
        if literal is not None:
            yield from _leaves(literal, segments, at + 1, verb)
        if node.one is not None and segment:
            yield from _leaves(node.one, segments, at + 1, verb)
    if verb in node.rest:
        yield node.rest[verb]
