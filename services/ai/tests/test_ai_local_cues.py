"""Cues are tried only where a word begins one; that finds what a search through the whole text would."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.text import canonical

from tools.eval import DATA

TABLES = [
    ("intents.toml", "caller"),
    ("intents.toml", "agent"),
    ("signals.toml", "lead"),
    ("findings.toml", "outcome"),
]
EXPRESSIONS = [
    "no (?:heat|hot water)", "cancel\\w*", "(?:\\w+ ){0,2}ready", "(?:do )?not (?!sure)call",
    "s(?:he|un)(?:ny)? day",
    "(?:very |so )*good", "[ab]c", "this is (?:a|the) \\w+$", "call(?:ed|ing)? (?:me|us)", "(?:a|b)+c", "x{2} y",
    "ab?c",
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


@pytest.mark.parametrize(("name", "section"), TABLES)
def test_a_table_finds_what_a_search_of_each_cue_finds(name, section):
    tables = cues.load(name)
    macros = {key: str(value) for key, value in tables["macros"].items()}
    lines = (DATA / "written.jsonl").read_text(encoding="utf-8").splitlines()[::40]
    table = cues.CueTable.of(tables[section], macros)
    for text in [canonical(json.loads(line)["text"]) for line in lines]:
        assert table.scores(text) == searched(tables[section], macros, text)


@given(st.lists(st.sampled_from([*WORDS, "\n"]), max_size=12))
def test_every_form_of_an_expression_is_found_wherever_it_begins(said):
    text = re.sub(r" ?\n ?", "\n", " ".join(said))
    table = {expression: {expression: 1.0} for expression in EXPRESSIONS}
    assert cues.CueTable.of(table, {}).scores(text) == searched(table, {}, text)
