"""Digests of parts: apart for any two lists of parts, and the same for ever."""

from hypothesis import assume, given
from hypothesis import strategies as st
from trunkline_runtime.digests import digest, letters

PARTS = st.lists(st.one_of(st.text(), st.binary()), max_size=5)


def as_bytes(parts):
    return [part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts]


@given(PARTS, PARTS)
def test_other_parts_have_another_digest(one, other):
    assume(as_bytes(one) != as_bytes(other))
    assert digest(*one) != digest(*other)


def test_what_was_derived_once_is_derived_for_ever():
    assert digest("ab", b"c").hex()[:16] == "f2939f903016e5bb"
    assert letters(digest("ab", "c", width=8), 26) == "maovi5xczt7czb5cxot2gitfs4"


def test_a_lone_surrogate_is_text_too():
    assert digest("\ud83d") != digest("\ud83e")
