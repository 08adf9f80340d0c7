"""Cues are tried only where a word begins one; that finds what a search through the whole text would."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.text import Spoken, canonical

from tools.eval import DATA

TABLES = [
    ("intents.toml", "caller"),
    ("intents.toml", "agent"),
    ("signals.toml", "lead"),
    ("signals.toml", "urgency"),
    ("findings.toml", "outcome"),
    ("findings.toml", "scorecard"),
    ("findings.toml", "compliance"),
    ("sentiment.toml", "feelings"),
]
EXPRESSIONS = [
    "no (?:heat|hot water)", "cancel\\w*", "(?:\\w+ ){0,2}ready", "(?:do )?not (?!sure)call",
    "s(?:he|un)(?:ny)? day",
    "(?:very |so )*good", "[ab]c", "this is (?:a|the) \\w+$", "call(?:ed|ing)? (?:me|us)", "(?:a|b)+c", "x{2} y",
    "ab?c", "not (?:\\w+ )?call", "(?:very|so) (?:good|hot)(?: water)? day", "call(?: me)? no\\w*",
]  # fmt: skip
WORDS = [
    "no", "heat", "hot", "water", "cancelling", "cancel", "ready", "do", "not", "call", "calling", "me", "she", "sunny",
    "day", "very", "so", "good", "ac", "bc", "this", "is", "a", "the", "aabc", "abc", "xx", "y", "sure", "called",
]  # fmt: skip


def searched(table, macros, text):
    return {
        label: sum(
            float(weight) for cue, weight in of_label.items() if cues.compile_cue(cue, macros).search(text)
        )
        for label, of_label in table.items()
    }


def found_in_lines(table, macros, text):
    lines = [searched(table, macros, line) for line in text.split("\n")]
    return {
        label: {number: sums[label] for number, sums in enumerate(lines) if sums[label]} for label in table
    }


@pytest.mark.parametrize(("name", "section"), TABLES)
def test_a_table_finds_what_a_search_of_each_cue_finds(name, section):
    tables = cues.load(name)
    macros = {key: str(value) for key, value in tables.get("macros", {}).items()}
    lines = (DATA / "written.jsonl").read_text(encoding="utf-8").splitlines()[::40]
    texts = [canonical(json.loads(line)["text"]) for line in lines]
    table = cues.table(name, section)
    for text in texts:
        assert table.scores(text) == searched(tables[section], macros, text)
    together = Spoken("\n".join(texts))
    expected = found_in_lines(tables[section], macros, together)
    for label, of_lines in expected.items():
        found = table.lines(label, together)
        assert {number: weight for number, weight in found.items() if weight} == of_lines


@pytest.mark.parametrize(("name", "section"), TABLES)
def test_no_cue_reaches_over_two_lines(name, section):
    """A table looks for its cues in all lines at once."""
    open_pieces = re.compile(r"(?<!\\)\.|\[\^|\\[sWDn]")
    assert not [
        cue for of_label in cues.load(name)[section].values() for cue in of_label if open_pieces.search(cue)
    ]


@given(st.lists(st.sampled_from([*WORDS, "\n"]), max_size=12))
def test_every_form_of_an_expression_is_found_wherever_it_begins(said):
    text = Spoken(re.sub(r" ?\n ?", "\n", " ".join(said)))
    expressions = {expression: {expression: 1.0} for expression in EXPRESSIONS}
    table = cues.CueTable.of(expressions, {})
    assert table.scores(text) == searched(expressions, {}, text)
    assert table.counts(text) == {one: len(cues.compile_cue(one, {}).findall(text)) for one in EXPRESSIONS}
    expected = found_in_lines(expressions, {}, text)
    assert {one: dict(table.lines(one, text)) for one in EXPRESSIONS} == expected
    for lines in ({0}, {1, 2}):
        kept = {one: sum(weight for at, weight in of.items() if at in lines) for one, of in expected.items()}
        assert {one: table.score(one, text, lines) for one in EXPRESSIONS} == {
            one: float(total > 0) for one, total in kept.items()
        }
