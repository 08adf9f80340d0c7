"""A large upload through the real processes: bytes are passed on, never held."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.bench.audio.uploads import MB, figures


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_large_upload_takes_little_memory(tmp_path: Path) -> None:
    """Twice what is allowed above idle goes through the gateway and the audio service."""
    assert figures(tmp_path / "suite", 128 * MB)["upload_peak_mb"] < 64
