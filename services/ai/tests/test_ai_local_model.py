import hashlib
import json

import numpy as np
import pytest
from trunkline_ai.engines.base import Context, SpeakerRole, Transcript, Turn
from trunkline_ai.engines.labels import Intent, LeadLevel
from trunkline_ai.engines.local.engine import LocalEngine
from trunkline_ai.engines.local.learned.model import Model

from tools import train
from tools.eval import DATA, answers, figures_of, read

ENGINE = LocalEngine()


def test_the_held_out_half_is_judged_as_well_as_we_say():
    items = read(DATA / "apart-heldout.jsonl")
    figures = figures_of(items, answers(ENGINE, items))
    floors = {"spam_f1": 0.95, "intent_accuracy": 0.84, "sentiment_accuracy": 0.88, "lead_accuracy": 0.86}
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
        arrays = train.trained(made, dict.fromkeys(train.LABELS, 2.0))
        return hashlib.sha256(train.written(arrays)).hexdigest()

    assert digest() == digest()


@pytest.mark.timeout(300)
def test_the_weights_are_those_of_the_data():
    """Fails where the data or a rule changed and the model was not trained again: `make train`."""
    blank = np.zeros(0)
    kept = np.load(train.OUT)
    sharpness = {head: float(kept[f"{head}_bias"][-1]) for head in train.LABELS}
    arrays = train.trained(train.examples(LocalEngine(Model([], blank, blank, blank, {}))), sharpness)
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
