"""Words that are meant for a machine are looked for only where one of a few words or marks stands."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_ai.engines.local.findings import fence

PATTERNS = [fence.TO_A_MACHINE, fence.NAMES_A_MACHINE, fence.ALSO_SAID_TO_PEOPLE]


def texts_of(pattern):
    # `(?-i:DAN)` is one name in capitals, which the maker of texts does not read.
    return st.from_regex(re.compile(pattern.pattern.replace("(?-i:DAN)", "DAN"), pattern.flags))


@pytest.mark.parametrize("pattern", PATTERNS, ids=["to", "names", "also"])
def test_what_the_patterns_find_is_looked_for(pattern):
    @given(texts_of(pattern))
    def looked_for(text):
        assert fence.may_be_to_a_machine(text)

    looked_for()


def test_what_callers_say_is_not():
    assert not fence.may_be_to_a_machine("Hi, I’ve got water all over the floor. Can you send someone today?")
