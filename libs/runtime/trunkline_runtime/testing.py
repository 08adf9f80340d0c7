"""What tests of every package share."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trunkline_runtime.identity.keys import create

_folder = TemporaryDirectory(prefix="trunkline-keys-")
KEY_FOLDER = create(Path(_folder.name))
"""A folder with keys of every service, which goes when the process ends."""


def value_of(metric: Any) -> float:
    """Return what a counter or a gauge shows: one without labels, or the child for some (`labels`)."""
    shown: float = next(iter(metric.collect())).samples[0].value
    return shown
