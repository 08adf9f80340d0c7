import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_ai.engines.base import Context, SpeakerRole, Transcript, Turn
from trunkline_ai.engines.labels import Intent, LeadLevel
from trunkline_ai.engines.local.engine import LocalEngine
from trunkline_ai.engines.local.learned.meanings import BEGINS, PIECES, Meanings
from trunkline_ai.engines.local.learned.model import Model

from tools import train
from tools.eval import DATA, answers, figures_of, read

ENGINE = LocalEngine()
MEANINGS = Meanings.load()


def test_the_held_out_half_is_judged_as_well_as_we_say():
    items = read(DATA / "apart-heldout.jsonl")
    figures = figures_of(items, answers(ENGINE, items))
    floors = {"spam_f1": 0.95, "intent_accuracy": 0.87, "sentiment_accuracy": 0.91, "lead_accuracy": 0.87}
    assert {name: figures[name] for name in floors if figures[name] < floors[name]} == {}


def test_nothing_that_is_held_out_was_trained_on():
    trained = {
        json.loads(line)["text"]
        for name in train.SETS
        for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    }
    held = [
        json.loads(line)["text"] for line in (DATA / "apart-heldout.jsonl").read_text("utf-8").splitlines()
    ]
    assert [text for text in held if len(text.split()) > 8 and text in trained] == []


def test_the_same_data_gives_the_same_file():
    def digest():
        blank = np.zeros(0)
        made = train.examples(LocalEngine(Model([], blank, blank, blank, {})), {"apart-train": 1.0})[:160]
        arrays = train.trained(made, dict.fromkeys(train.LABELS, 2.0), MEANINGS)
        return hashlib.sha256(train.written(arrays)).hexdigest()

    assert digest() == digest()


@pytest.mark.timeout(600)
def test_the_weights_are_those_of_the_data():
    """Fails where the data or a rule changed and the model was not trained again: `make train`."""
    blank = np.zeros(0)
    kept = np.load(train.OUT)
    sharpness = {head: float(kept[f"{head}_bias"][-1]) for head in train.LABELS}
    arrays = train.trained(
        train.examples(LocalEngine(Model([], blank, blank, blank, {}))), sharpness, MEANINGS
    )
    assert arrays.keys() == set(kept.files)
    assert arrays["vocabulary"].tobytes() == kept["vocabulary"].tobytes()
    for name, values in arrays.items():
        np.testing.assert_allclose(values.astype(float), kept[name].astype(float), atol=1e-2, err_msg=name)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("es", "Buenas tardes, se me rompió una tubería y necesito ayuda"),
        ("fr", "Bonjour, je voudrais un devis pour refaire la toiture"),
        ("de", "Guten Tag, ich möchte einen Termin am Montag"),
        ("pt", "Bom dia, quanto custa trocar o aquecedor"),
        ("pl", "Dzień dobry, chciałbym złożyć reklamację"),
    ],
)
def test_a_model_of_english_invents_nothing_of_other_languages(language, said):
    transcript = Transcript((Turn(SpeakerRole.CUSTOMER, said),))
    result = ENGINE.analyze_now(transcript, Context(language=language))
    assert (result.unreliable, result.intent) == ("language_not_analysed", Intent.OTHER)
    assert (result.lead_level, result.lead_score, result.spam) == (LeadLevel.NONE, 0, False)


def test_words_that_mean_alike_are_near_also_those_that_no_training_text_has():
    def near(one, other):
        first, second = (MEANINGS.mean_of({word: 1.0}) for word in (one, other))
        return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))

    assert near("refund", "reimbursement") > near("refund", "chimney") + 0.1
    assert near("furious", "angry") > near("furious", "tuesday") + 0.1


@given(st.text(alphabet="abcxyz0189ñé", max_size=60))
def test_a_word_is_cut_into_pieces_that_are_its_letters_in_order(word):
    names = np.load(PIECES)["pieces"].tobytes().decode().split("\n")
    left = BEGINS + word
    for name in (names[number] for number in MEANINGS.pieces_of(word)):
        # What no piece has was left out before it.
        skipped, _, left = left.partition(name)
        assert set(skipped) <= set("ñé" + BEGINS)
    assert set(left) <= set("ñé" + BEGINS)


@pytest.mark.parametrize("words", [{}, {"ññ": 1.0}, {"water": 0.0}])
def test_nothing_said_means_nothing(words):
    assert not MEANINGS.mean_of(words).any()
