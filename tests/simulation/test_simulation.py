"""Seeded schedules of everything that can go wrong, in one process and in virtual time; `make simulate` runs more."""

import gc
import os
import subprocess
import sys
from collections import Counter
from itertools import chain

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.schedule import Simulation
from tests.simulation.store import Disk

SCHEDULES = 75
"""CI runs these, and 3,000 more by `make simulate`."""
SOUGHT_IN = 500
SHOWN_BY = {
    "token_not_compared": 18, "doubt_not_resolved": 15, "spool_forgets_first": 14, "cap_not_looked_at": 14,
    "first_tenant_only": 110,
}  # fmt: skip
"""A schedule that shows a mistake which few of the first ones do: it is tried before them."""


class Ran:
    """The schedules, run once for the tests below: what failed, what all of them did, and what they left behind."""

    def __init__(self):
        self.failed, self.counts = [], Counter()
        with Simulation().installed() as simulation:
            for seed in range(SCHEDULES - 25):  # until the statements that are rare are compiled too
                self._note(simulation.run(seed))
            before = len(_kept())
            for seed in range(SCHEDULES - 25, SCHEDULES):
                self._note(simulation.run(seed))
            self.grown = len(_kept()) - before
        del simulation
        self.disks = sum(type(kept) is Disk for kept in _kept())

    def _note(self, outcome):
        self.counts.update(outcome.counts)
        if outcome.violations:
            self.failed.append(f"make simulate SEED={outcome.seed}: {outcome.violations[0]}")


def _kept():
    gc.collect()
    return gc.get_objects()


@pytest.fixture(scope="module")
def ran():
    return Ran()


@pytest.mark.timeout(600)
def test_every_promise_holds_in_every_schedule(ran):
    counts = ran.counts
    assert ran.failed == []
    assert counts["schedules"] == SCHEDULES
    # The schedules are about something.
    assert counts["kills"] > SCHEDULES
    assert counts["events"] > 3 * SCHEDULES
    assert counts["acknowledged"] > counts["events"]  # redeliveries
    assert counts["leases"] > 1.1 * counts["events"]  # work that was begun again


_TRACES = """
from tests.simulation.schedule import Simulation
with Simulation().installed() as simulation:
    print([simulation.run(seed).trace for seed in range(8)])
"""


def test_a_seed_repeats_exactly_also_in_another_process():
    with Simulation().installed() as simulation:
        here = [simulation.run(seed).trace for seed in range(8)]
    told = subprocess.run(
        [sys.executable, "-c", _TRACES],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": "."},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert eval(told) == here
    assert len(set(here)) == 8


def test_nothing_of_what_was_run_is_kept(ran):
    """A worker of `make simulate` runs 50,000 schedules, in a thousand simulations."""
    assert ran.grown < 10 * 25
    assert ran.disks == 0


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.__name__ for mutant in MUTANTS])
@pytest.mark.timeout(600)
def test_a_mistake_in_the_code_is_found(mutant):
    seeds = chain([SHOWN_BY.get(mutant.__name__, 0)], range(SOUGHT_IN))
    with mutant(), Simulation().installed() as simulation:
        found = next((seed for seed in seeds if simulation.run(seed).violations), None)
    assert found is not None, f"{mutant.__doc__} was not found in {SOUGHT_IN} schedules"
