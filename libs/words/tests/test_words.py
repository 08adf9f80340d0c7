"""Spoken numbers, patterns that begin with words, and apostrophes."""

import re

from hypothesis import given
from hypothesis import strategies as st
from trunkline_words import numbers
from trunkline_words.patterns import WordPatterns
from trunkline_words.written import Written, straightened


def test_numbers_are_spelt_as_they_are_read():
    assert [numbers.value(numbers.spelt(number)) for number in range(100)] == list(range(100))
    assert (numbers.spelt(0), numbers.spelt(40), numbers.spelt(99)) == ("zero", "forty", "ninety nine")


def test_apostrophes_are_straightened_in_their_places():
    assert straightened("I’m ‘here’") == "I'm 'here'"


@given(
    st.lists(
        st.sampled_from(["It's", "ITS", "one", "One's", "at 5", "5pm", "mr.", "a.m.", ",", "-", "\n", "é"])
    )
)
def test_patterns_find_by_their_first_words_what_they_find_anywhere(said):
    patterns = [
        re.compile(expression, re.IGNORECASE)
        for expression in (r"\bit'?s\s++(?P<what>\w++)", r"\b(?:one|\d)(?:[\s,-]+(?:one|\d))*\b", r"\bat\s\d++(?!\w)",
                           r"(?:\bmr\.?|\bA\.?m)(?!\w)")
    ]  # fmt: skip
    text = Written(" ".join(said))
    found = [[one.span() for one in matches] for matches in WordPatterns(*patterns).find(text)]
    assert found == [[one.span() for one in pattern.finditer(text)] for pattern in patterns]
