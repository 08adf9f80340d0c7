"""Tests replace parts through what is made for it: none patches a private name, or a module's constant."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# Faults that are planted on purpose, to see that the simulation finds them.
_PLANTED = ROOT / "tests/simulation/mutants.py"
_OWN = frozenset({"self", "cls"})
_PRIVATE = re.compile(r"_[^_]")
_CONSTANT = re.compile(r"[A-Z][A-Z0-9_]+")
_PATCHING = frozenset({"setattr", "delattr", "object", "patch"})


def _files() -> list[Path]:
    folders = [ROOT / "tests", *ROOT.glob("*/*/tests"), *ROOT.glob("*/tests")]
    return sorted({file for folder in folders for file in folder.rglob("*.py")} - {_PLANTED})


def _patched(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Give what a module patches that it should not: the line, and the name."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = list(node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, name) for name in _named(node) if _hidden(name))
        for target in targets:
            while isinstance(target, ast.Subscript):
                target = target.value
            if (
                isinstance(target, ast.Attribute)
                and ast.unparse(target.value) not in _OWN
                and _hidden(target.attr)
            ):
                yield node.lineno, target.attr


def _hidden(name: str) -> bool:
    return bool(_PRIVATE.match(name) or _CONSTANT.fullmatch(name))


def _named(call: ast.Call) -> Iterator[str]:
    """Give the name that a call of setattr, monkeypatch.setattr, patch, or patch.object replaces."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    texts = [
        arg.value for arg in call.args[:2] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
    ]
    if called in _PATCHING and texts:
        yield texts[0].rpartition(".")[2]


def test_no_test_patches_a_private_name_or_a_constant() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in _files()
        for line, name in _patched(ast.parse(file.read_text()))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("world.events._tell = tell", "_tell"),
        ("a = service._stub = Stub", "_stub"),
        ("sources._missing['x'] = None", "_missing"),
        ("sources._count += 1", "_count"),
        ("monkeypatch.setattr(backlog, '_chosen', noted)", "_chosen"),
        ("monkeypatch.setattr(admission, 'OPENED_BYTES', 1)", "OPENED_BYTES"),
        ("monkeypatch.setattr('trunkline_audio.decode.OPTIONS', {})", "OPTIONS"),
        ("mock.patch.object(Queue, '_held', held)", "_held"),
        ("mock.patch('trunkline_jobs.queue._now')", "_now"),
    ],
)
def test_what_is_patched_is_seen(code: str, name: str) -> None:
    assert [found for _, found in _patched(ast.parse(code))] == [name]


@pytest.mark.parametrize(
    "code",
    [
        "self._asked = []",
        "world.feed.down = True",
        "monkeypatch.setattr(CallRail, 'verify', broken)",
        "monkeypatch.setenv('HF_HUB_OFFLINE', '1')",
        "mock.patch.object(Queue, '__init__', made)",
    ],
)
def test_what_a_test_may_do_is_let_pass(code: str) -> None:
    assert list(_patched(ast.parse(code))) == []
