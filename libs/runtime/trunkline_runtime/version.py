"""The suite's version, as it names itself to others."""

from importlib import metadata

USER_AGENT = f"trunkline/{metadata.version('trunkline-runtime')}"
