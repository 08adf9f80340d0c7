import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GOOD = {"id": "1", "text": "A: hello\nC: how much is a new roof", "spam": 0, "sentiment": "neutral",
        "intent": "quote_request", "lead": "medium"}  # fmt: skip


def evaluate(path):
    return subprocess.run(
        [sys.executable, "-m", "tools.eval", "--data", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


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
