"""What tests of every package share."""

from pathlib import Path
from tempfile import TemporaryDirectory

from trunkline_runtime.identity.keys import create

_folder = TemporaryDirectory(prefix="trunkline-keys-")
KEY_FOLDER = create(Path(_folder.name))
"""A folder with keys of every service, which goes when the process ends."""
