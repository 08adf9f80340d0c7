"""Many schedules on all processors; the first seeds that fail, and what all of them did."""

import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.simulation.schedule import Outcome, Simulation

_CHUNK = 50
_FAILED_MOST = 20


def some(first, count):
    """Run schedules in this process; the failed ones and the sum of all counts."""
    counts, failed = Counter(), []
    with Simulation().installed() as simulation:
        for seed in range(first, first + count):
            outcome = simulation.run(seed)
            counts.update(outcome.counts)
            if outcome.violations:
                failed.append(outcome)
    return failed, counts


def many(first, count, tell=lambda done: None):
    """Run schedules `first` to `first + count - 1`; stops early when many fail."""
    failed: list[Outcome] = []
    counts: Counter = Counter()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool:
        chunks = [
            pool.submit(some, at, min(_CHUNK, first + count - at))
            for at in range(first, first + count, _CHUNK)
        ]
        try:
            for chunk in as_completed(chunks):
                more, done = chunk.result()
                failed += more
                counts += done
                tell(counts["schedules"])
                if len(failed) >= _FAILED_MOST:
                    break
        finally:
            pool.shutdown(cancel_futures=True)
    return sorted(failed, key=lambda outcome: outcome.seed), counts
