"""Seeded schedules of everything that can go wrong, in one process and in virtual time; `make simulate` runs more."""

import gc
import os
import subprocess
import sys

import pytest

from tests.simulation.many import many
from tests.simulation.mutants import MUTANTS
from tests.simulation.schedule import Simulation
from tests.simulation.store import Disk

SCHEDULES = 150
"""CI runs these and 2,850 more by `make simulate`."""
SOUGHT_IN = 500
"""Each mistake of mutants.py is found within 50."""


@pytest.mark.timeout(600)
def test_every_promise_holds_in_every_schedule():
    failed, counts = many(0, SCHEDULES)
    assert [f"make simulate SEED={o.seed}: {o.violations[0]}" for o in failed] == []
    assert counts["schedules"] == SCHEDULES
    # The schedules are about something.
    assert counts["kills"] > SCHEDULES
    assert counts["events"] > 3 * SCHEDULES
    assert counts["acknowledged"] > counts["events"]  # redeliveries
    assert counts["leases"] > 1.1 * counts["events"]  # work that was begun again


_TRACES = """
from tests.simulation.schedule import Simulation
with Simulation().installed() as simulation:
    print([simulation.run(seed).trace for seed in range(12)])
"""


def test_a_seed_repeats_exactly_also_in_another_process():
    traces = {
        subprocess.run(
            [sys.executable, "-c", _TRACES],
            env={**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": "."},
            capture_output=True, text=True, check=True,
        ).stdout
        for hashes in ("1", "2")
    }  # fmt: skip
    assert len(traces) == 1
    assert len(set(eval(traces.pop()))) == 12


def _kept():
    gc.collect()
    return gc.get_objects()


def test_nothing_of_what_was_run_is_kept():
    """A worker of `make simulate` runs 50,000 schedules, in a thousand simulations."""
    with Simulation().installed() as simulation:
        for seed in range(50):  # until the statements that are rare are compiled too
            simulation.run(seed)
        before = len(_kept())
        for seed in range(50, 75):
            simulation.run(seed)
        assert len(_kept()) - before < 10 * 25
    del simulation
    assert not any(type(kept) is Disk for kept in _kept())


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.__name__ for mutant in MUTANTS])
@pytest.mark.timeout(600)
def test_a_mistake_in_the_code_is_found(mutant):
    with mutant(), Simulation().installed() as simulation:
        found = next((seed for seed in range(SOUGHT_IN) if simulation.run(seed).violations), None)
    assert found is not None, f"{mutant.__doc__} was not found in {SOUGHT_IN} schedules"
