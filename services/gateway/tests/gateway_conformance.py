"""What the gateway does with its store, on whichever engine: checks, each given a way to open an empty database.

A check is an async function of `open(*sources)`, an async context manager of a World (gateway_world.py). An engine
that is let off a check is named in EXCLUSIONS with the reason.
"""

from __future__ import annotations

CHECKS = {}
EXCLUSIONS = {
    ("spanner", "expired_rejections_and_replays_are_swept"): (
        "a ROW DELETION POLICY deletes them there, which the emulator takes and does not enforce; that the policies "
        "are declared is shown by test_gateway_spanner_schema.py"
    ),
}
"""(engine, check) -> why that engine is let off that check."""


def check(function):
    """Enrol a check in the suite."""
    CHECKS[function.__name__] = function
    return function
