"""Sentences score what VADER gives them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_ai.engines.local.valence import Valences
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

OVERRIDES = {"thank": 0.35, "no": 0.0, "leak": -0.4, "well": 0.0}
WORDS = [
    "good", "GOOD", "great!", "terrible", "love", "hate", "no", "No", "not", "never", "isn't", "so", "this", "without",
    "doubt", "very", "VERY", "hardly", "kind", "of", "least", "at", "but", "But,", "or", "nor", "leak", "well", "thank",
    "the", "bomb", "yeah", "right", "just", "enough", "plumber", "I", ":)", "ok?", "what??", "really???", "wow!!!!!",
    "\U0001f600", "don’t", "despite", "uh-uh", "(sorry)", "less",
]  # fmt: skip


@pytest.fixture(scope="module")
def valences():
    return Valences(OVERRIDES)


@pytest.fixture(scope="module")
def library():
    analyzer = SentimentIntensityAnalyzer()
    analyzer.lexicon.update(OVERRIDES)
    return analyzer


@given(st.lists(st.sampled_from(WORDS), max_size=12))
def test_a_sentence_scores_what_the_library_gives_it(valences, library, said):
    sentence = " ".join(said)
    assert valences.compound(sentence) == library.polarity_scores(sentence)["compound"]
