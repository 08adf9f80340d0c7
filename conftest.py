"""What holds for every test: a file leaves the logs of its process as it found them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# How long inputs take to make says how busy the machine is, and nothing about the code.
_ALL = {"suppress_health_check": [HealthCheck.too_slow], "deadline": None}
settings.register_profile("trunkline", max_examples=40, **_ALL)
# HYPOTHESIS_PROFILE=thorough, for a night or before a release.
settings.register_profile("thorough", max_examples=1_000, **_ALL)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "trunkline"))


def pytest_collection_finish() -> None:
    """Let the collector pass over what stays to the end: modules and tests, a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Undo `logs.configure`: a file that silences the logs would silence those that the next one looks for."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
