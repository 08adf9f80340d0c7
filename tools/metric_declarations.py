"""Every metric that the code declares, read from the source: nothing is started for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = sorted(
    path for top in ("libs", "services", "cli") for path in ROOT.glob(f"{top}/**/trunkline_*/**/*.py")
)
KINDS = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "tally": "counter",
    "tally_of_seconds": "histogram",
}
"""The functions that declare metrics, and the kinds of what they make."""


@dataclass(frozen=True)
class Declaration:
    """A metric as a module declares it."""

    name: str
    kind: str
    """As Prometheus calls it."""
    doc: str
    labels: tuple[str, ...]
    module: Path
    """Relative to the project."""


@cache
def declared() -> tuple[Declaration, ...]:
    """Return the metrics, in the order of their names; one that two modules declare is there once."""
    found: dict[str, Declaration] = {}
    for path in CODE:
        for one in _of(path):
            found.setdefault(one.name, one)
    return tuple(found[name] for name in sorted(found))


def _of(path: Path) -> Iterator[Declaration]:
    text = path.read_text()
    if "trunkline_" not in text or not any(f"{kind}(" in text for kind in KINDS):
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        kind = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if kind not in KINDS:
            continue
        labels = [*node.args[2:3], *(word.value for word in node.keywords if word.arg == "labels")]
        docs = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "doc")]
        for side, name in _texts(node.args[0]):
            if name.startswith("trunkline_"):
                doc = next((dict(_texts(d)).get(side, "") for d in docs), "")
                yield Declaration(name, KINDS[kind], doc, _strings(labels), path.relative_to(ROOT))


def _texts(node: ast.expr) -> list[tuple[str, str]]:
    """Return a text; of one for both sides of an RPC, each side's."""
    if isinstance(node, ast.Constant):
        return [(side, str(node.value)) for side in ("server", "client")][:1]
    if isinstance(node, ast.JoinedStr):
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        return [(side, text.format(side)) for side in ("server", "client")]
    return []


def _strings(nodes: list[ast.expr]) -> tuple[str, ...]:
    constants = (n.value for node in nodes for n in ast.walk(node) if isinstance(n, ast.Constant))
    return tuple(value for value in constants if isinstance(value, str))
