"""`make demo STORE=spanner` where there is no emulator ends at once and says what is missing."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", ["demo", "up"])
def test_without_an_emulator_it_says_what_to_install(tmp_path, command):
    ended = subprocess.run(
        [sys.executable, "-m", "trunkline_cli", command, "--store", "spanner"],
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": os.getcwd()},
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stdout
    assert (
        "trunkline: cannot use the store spanner: no Spanner emulator: install the Google Cloud CLI"
        in ended.stderr
    )
    assert "Traceback" not in ended.stderr
