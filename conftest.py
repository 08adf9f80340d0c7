"""What holds for every test: a file leaves the logs of its process as it found them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# How long inputs take to make says how busy the machine is, and nothing about the code.
settings.register_profile("trunkline", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("trunkline")


@pytest.fixture(scope="module", autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Undo `logs.configure`: a file that silences the logs would silence those that the next one looks for."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
