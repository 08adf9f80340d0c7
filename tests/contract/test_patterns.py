"""No text that a stranger sends makes a regular expression of the suite slow."""

from __future__ import annotations

import ast
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from trunkline_ai.engines.local.engine import LocalEngine
from trunkline_runtime.api import resources

from tests.contract import adversaries, patterns

MOST_SECONDS = 0.05
RUNS = 8
# A first look at this many characters: what is slow there, or among the slowest, is looked at in full.
_FIRST_LOOK = 1_000
_SLOWEST = 2
_SUSPECT_SECONDS = 0.001
_PLAIN, _PLAIN_TEXT, _PLAIN_SECONDS = re.compile(r"\D"), "%" * adversaries.LENGTH, 0.018


def _all() -> list[patterns.Use]:
    names = [resources._compiled("tenants/{tenant}/calls/{call}", wildcard) for wildcard in (False, True)]
    found = patterns.uses(LocalEngine())
    return [*found, *(patterns.Use(pattern, "resource names", False) for pattern in names)]


@pytest.fixture(scope="module")
def every_use() -> list[patterns.Use]:
    return _all()


class _TooSlow(Exception):
    pass


@contextmanager
def _bell() -> Iterator[None]:
    """Expressions look for signals while they run: one that would take minutes need not."""

    def ring(*_: Any) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGPROF, ring)
    try:
        yield
    finally:
        signal.signal(signal.SIGPROF, before)


def _stopped(seconds: float, ask: Callable[[Any], Any], text: Any) -> None:
    """Ask until the bell rings, after so many seconds of processor time: a busy machine gives few of them."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        ask(text)
    except _TooSlow:
        pass
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _seconds(use: patterns.Use, text: Any) -> float:
    """Tell what it costs to go through a text, in this thread's own time: other processes do not count."""
    asks: list[Callable[[Any], Any]] = [use.pattern.match, use.pattern.fullmatch]
    if use.searched:
        asks = [lambda text: deque(use.pattern.finditer(text), maxlen=0)]
    slowest = 0.0
    for ask in asks:
        began = time.thread_time()
        _stopped(0.5, ask, text)
        slowest = max(slowest, time.thread_time() - began)
    return slowest


def _slowness() -> float:
    """Tell how much slower this machine is just now than one of its own, by something that is known to be linear."""
    began = time.thread_time()
    sum(1 for _ in _PLAIN.finditer(_PLAIN_TEXT))
    slowness = (time.thread_time() - began) / _PLAIN_SECONDS
    # Not every pattern slows down alike: room is left for that.
    return max(1.0, slowness * 1.25)


@_bell()
def _worst(use: patterns.Use) -> tuple[float, str]:
    """Find the text that costs most, the best of a few runs."""
    pattern = use.pattern
    short = {
        recipe: _seconds(use, recipe.text(pattern, _FIRST_LOOK)) for recipe in adversaries.recipes(pattern)
    }
    worst = (0.0, "")
    for i, recipe in enumerate(sorted(short, key=lambda recipe: -short[recipe])):
        if i >= _SLOWEST and short[recipe] < _SUSPECT_SECONDS:
            break
        text = recipe.text(pattern)
        took = _seconds(use, text)
        for _ in range(RUNS - 1):
            if not MOST_SECONDS < took < 4 * MOST_SECONDS:
                break
            took = min(took, _seconds(use, text) / _slowness())
        worst = max(worst, (took, str(recipe)))
        if took > MOST_SECONDS:
            break
    return worst


def test_every_pattern_reads_100_000_characters_of_its_worst_text_in_50_ms(every_use):
    slow = [
        f"{use.where}: {took * 1000:.0f} ms for {text}: {use.pattern.pattern!r}"
        for use in every_use
        for took, text in [_worst(use)]
        if took > MOST_SECONDS
    ]
    assert not slow, "\n".join(slow)


def test_the_walk_finds_patterns_in_every_place_that_holds_some(every_use):
    places = " ".join(use.where for use in every_use)
    for place in (
        "redact._TOKEN", "patterns._EMAIL", "receiver._PATH", "LocalEngine", "spanner.driver._DDL", "speech._WORD",
        "placeholders._PLACEHOLDER", "redaction.engine._FENCED",
    ):  # fmt: skip
        assert place in places
    assert len(every_use) > 400


def test_a_slow_pattern_would_be_found():
    for bad in (r"[\w-]*secret[\w-]*=", r"\b\d[\d,]*(?:\.\d{1,2})?\s(?:dollars|bucks)"):
        use = patterns.Use(re.compile(bad), "here", True)
        assert _worst(use)[0] > MOST_SECONDS, bad


def test_patterns_are_compiled_where_the_walk_finds_them():
    """In a module's own names: `re.search(...)` and a pattern made inside of a function would be missed."""
    made_elsewhere = {
        "trunkline_ai.engines.local.cues",
        "trunkline_words.patterns",
        "trunkline_runtime.api.resources",
    }  # fmt: skip - see _all
    for module in patterns.modules():
        tree = patterns.tree_of(module)
        inside = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)
        }
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "re"
            ):
                continue
            place = f"{module.__name__}, line {node.lineno}: re.{node.attr}"
            assert node.attr not in patterns.SEARCHING | patterns.ANCHORED, place
            assert node.attr != "compile" or id(node) not in inside or module.__name__ in made_elsewhere, (
                place
            )
