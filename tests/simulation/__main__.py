"""`make simulate SCHEDULES=n` from a random seed on; `make simulate SEED=n` repeats one. 1 when a promise broke."""

import argparse
import secrets
import sys
import time

from tests.simulation.many import many
from tests.simulation.schedule import Simulation


def replay(seed):
    """Run one schedule and tell its story."""
    with Simulation().installed() as simulation:
        outcome = simulation.run(seed, tell=print)
    print(f"seed {seed}: {', '.join(f'{value} {name}' for name, value in sorted(outcome.counts.items()))}")
    return [outcome] if outcome.violations else []


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    if asked.seed is not None:
        failed = replay(asked.seed)
    else:
        first = secrets.randbelow(10**9)
        began = time.monotonic()

        def tell(done):
            if done % 1000 == 0:
                print(f"{done} schedules, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

        failed, counts = many(first, asked.schedules, tell)
        print(
            f"simulation: {counts['schedules']} schedules from seed {first}, {counts['kills']} kills, "
            f"{counts['acknowledged']} acknowledged, {counts['events']} events, {counts['leases']} leases, "
            f"{counts['seconds']} s of virtual time, {len(failed)} failed, {time.monotonic() - began:.0f} s"
        )
    for outcome in failed:
        print(f"FAILED, repeat by: make simulate SEED={outcome.seed}")
        for violation in outcome.violations:
            print(f"  {violation}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
