"""Every regular expression of the suite, found by walking what its modules hold, and how each is used."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = (
    "trunkline_words", "trunkline_runtime", "trunkline_store", "trunkline_work", "trunkline_jobs", "trunkline_gateway",
    "trunkline_tenant", "trunkline_audio", "trunkline_ai",
)  # fmt: skip
SEARCHING = frozenset({"search", "finditer", "findall", "split", "sub", "subn"})
ANCHORED = frozenset({"match", "fullmatch"})
_DEEPEST = 8


@dataclasses.dataclass(frozen=True)
class Use:
    """A pattern, one place where it is held, and whether it is searched for, or asked at one place of a text only."""

    pattern: re.Pattern[Any]
    where: str
    searched: bool


def modules() -> Iterator[ModuleType]:
    """Import and give every module of the suite, but for the entry points."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def uses(*objects: Any) -> list[Use]:
    """Give the patterns that the modules hold, each once, and those of objects that hold more when they are made."""
    found: dict[tuple[Any, int], Use] = {}

    def note(pattern: re.Pattern[Any], where: str, searched: bool) -> None:
        known = found.get((pattern.pattern, pattern.flags))
        if known is None or (searched and not known.searched):
            found[(pattern.pattern, pattern.flags)] = Use(pattern, where, searched)

    for module in modules():
        asked = _asked(module)
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                note(value, f"{module.__name__}.{name}", not asked.get(name, SEARCHING) <= ANCHORED)
            elif not name.startswith("__"):
                for where, pattern in _held(value, f"{module.__name__}.{name}"):
                    note(pattern, where, True)
    for made in objects:
        for where, pattern in _held(made, type(made).__name__):
            note(pattern, where, True)
    return list(found.values())


def tree_of(module: ModuleType) -> ast.Module:
    """Parse a module's source."""
    return ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))


def _asked(module: ModuleType) -> dict[str, frozenset[str]]:
    """Tell which methods of each name a module calls; a name that it uses in another way is searched for."""
    methods: dict[str, set[str]] = {}
    tree = tree_of(module)
    called = {id(node.value): node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            methods.setdefault(node.id, set()).add(called.get(id(node), "search"))
    return {name: frozenset(names) for name, names in methods.items()}


def _held(value: Any, where: str, depth: int = _DEEPEST) -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Give the patterns in a value: in containers, and in the attributes of our own classes and objects."""
    if isinstance(value, re.Pattern):
        yield where, value
    elif depth == 0:
        return
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _held(inner, f"{where}[{key!r}]", depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for i, inner in enumerate(value):
            yield from _held(inner, f"{where}[{i}]", depth - 1)
    elif _ours(value):
        for name, inner in list(getattr(value, "__dict__", {}).items()):
            if not name.startswith("__"):
                yield from _held(inner, f"{where}.{name}", depth - 1)


def _ours(value: Any) -> bool:
    kind = value if isinstance(value, type) else type(value)
    return kind.__module__.startswith("trunkline_")
