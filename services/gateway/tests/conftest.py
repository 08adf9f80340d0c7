"""Makes this folder's helper modules (gateway_*.py) importable by its tests."""

import sys
from pathlib import Path

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)
