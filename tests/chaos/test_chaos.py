"""Two rounds of kills on the real processes; `make chaos` runs more."""

import secrets
import shutil

from tests.forked import launch
from tools.chaos.__main__ import chaos


def test_kills_lose_and_double_nothing(tmp_path):
    seed = secrets.randbelow(10**6)
    outcome = chaos(2, seed, tmp_path / "chaos", launch)
    assert list(outcome.verdict.sentences()) == [], (
        f"make chaos ROUNDS=2 SEED={seed}; stores and logs: {tmp_path}"
    )
    assert outcome.kills >= 2
    assert outcome.acknowledged >= 20
    assert outcome.verdict.recorded >= 10
    shutil.rmtree(tmp_path / "chaos")
