"""The evaluation: what it says of files, engines, probabilities, and agreement."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_ai.engines.base import Transcript

from tests.forked import forked
from tools.eval.asking import Answer
from tools.eval.data import Item
from tools.eval.figures import agreement, bins, calibration_error, claims_of, figures_of, tallies

ROOT = Path(__file__).resolve().parents[3]
GOOD = {"id": "1", "text": "A: hello\nC: how much is a new roof", "spam": 0, "sentiment": "neutral",
        "intent": "quote_request", "lead": "medium"}  # fmt: skip


def evaluate(path, *more, **env):
    return forked("tools.eval").run(["--data", str(path), *more], os.environ | env, ROOT)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", ":2: is not JSON"),
        ("[1]", ":2: must be a JSON object"),
        (json.dumps({**GOOD, "intent": "buying"}), ":2: field `intent` must be one of emergency_service"),
        (json.dumps({**GOOD, "spam": "yes"}), ":2: field `spam` must be 0 or 1"),
        (json.dumps({key: GOOD[key] for key in GOOD if key != "lead"}), ":2: field `lead` is missing"),
        (json.dumps(GOOD), "occurs twice"),
    ],
)
def test_a_malformed_line_is_named_with_its_field(tmp_path, line, said):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n")
    done = evaluate(path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_two_engines_are_compared_as_json(tmp_path):
    path = tmp_path / "mine.jsonl"
    rows = [GOOD, {**GOOD, "id": "2", "text": "", "intent": "no_conversation", "lead": "none"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    standin = "tests.standins.completing_ai:create"
    done = evaluate(path, "--engine", "local", "--engine", standin, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    local = told["engines"]["local"]["sets"]["mine"]
    assert (local["transcripts"], local["answered"], local["figures"]["intent_accuracy"]) == (2, 2, 1.0)
    assert {one["label"]: one["f1"] for one in local["labels"]["lead"]}["none"] == 1.0
    assert sum(one["count"] for one in local["calibration"]["lead_score"]) == 2
    asked = told["engines"][standin]
    assert (asked["name"], asked["sets"]["mine"]["usage"]["cost_micros"]) == ("completing/standin", 7)
    assert told["agreement_with_first"][standin]["intent"] == {
        "items": 2,
        "share": 0.5,
        "kappa": pytest.approx(1 / 3),
    }
    assert told["targets"]["spam_f1"] == 0.95


def test_an_engine_that_answers_nothing_is_a_failure_that_says_why(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(GOOD) + "\n")
    env = {"TRUNKLINE_AI_OPENAI_URL": "http://127.0.0.1:1/v1", "TRUNKLINE_AI_OPENAI_PATIENCE_SECONDS": "0"}
    done = evaluate(path, "--engine", "openai", **env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: openai answered no transcript: ENGINE_UNREACHABLE: ")
    done = evaluate(path, "--engine", "gpt")
    assert (done.returncode, done.stdout) == (2, "")
    assert "TRUNKLINE_AI_ENGINE must be" in done.stderr


def answer(label, confidence=0.0, score=0):
    return Answer({"spam": "0", "sentiment": "neutral", "intent": label, "lead": "none"}, confidence, score)


def item(label, lead="none"):
    return Item("1", Transcript(()), {"spam": "0", "sentiment": "neutral", "intent": label, "lead": lead})


def test_no_answer_is_a_wrong_one_and_no_label():
    items = [item("billing"), item("billing"), item("support")]
    answered = [answer("billing"), None, answer("billing")]
    told = {one.label: (one.precision, one.recall) for one in tallies("intent", items, answered)}
    assert told == {"billing": (0.5, 0.5), "support": (0.0, 0.0)}
    assert figures_of(items, answered)["intent_accuracy"] == 0.3333


def test_calibration_compares_what_is_claimed_with_what_is_true():
    items = [item("billing", "high"), item("support", "low"), item("billing", "medium"), item("cancel")]
    answered = [answer("billing", 0.92, 88), answer("billing", 0.98, 20), answer("billing", 0.3, 100), None]
    claims = claims_of(items, answered)
    made = bins(claims["intent_confidence"])
    assert [(one.least, one.count, one.claimed, one.observed) for one in made] == [
        (0.3, 1, 0.3, 1.0), (0.9, 2, pytest.approx(0.95), 0.5)
    ]  # fmt: skip
    assert calibration_error(made) == pytest.approx((0.7 + 2 * 0.45) / 3)
    assert claims["lead_score"] == [(0.88, True), (0.2, False), (1.0, True)]
    assert [one.most for one in bins(claims["lead_score"])] == [0.3, 0.9, 1.0]
    assert calibration_error([]) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))
def test_every_claim_is_in_one_bin_and_the_error_is_a_share(claims):
    made = bins(claims)
    assert sum(one.count for one in made) == len(claims)
    assert 0 <= calibration_error(made) <= 1


def test_agreement_is_what_is_beyond_chance():
    # The textbook's: 20 and 15 the same, 5 and 10 not.
    pairs = [("a", "a")] * 20 + [("a", "b")] * 5 + [("b", "a")] * 10 + [("b", "b")] * 15
    one, other = ([answer(pair[side]) for pair in pairs] for side in (0, 1))
    told = agreement("intent", [*one, None], [*other, answer("a")])
    assert (told.items, told.share, told.kappa) == (50, 0.7, pytest.approx(0.4))
    assert agreement("intent", one, one).kappa == 1
    assert agreement("spam", one, other).kappa == 1, "both say one thing of everything"
    assert agreement("intent", [None], [None]).items == 0
