"""Kills: which processes, when, and for how long they are down; planned by the seed, carried out on the clock."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from dataclasses import dataclass

from trunkline_cli.suite.processes import Suite, SuiteError

VICTIMS = ("gateway", "worker", "tenant", "audio", "ai")


@dataclass(frozen=True)
class Strike:
    """One kill -9, `at` seconds into the round, and how long until the process is started again."""

    at: float
    victim: str
    down: float


def planned(rng: random.Random, number: int, seconds: float) -> list[Strike]:
    """Return a round's strikes: everyone has its turn, the gateway and the worker are struck more often.

    Some fall on a process that is just starting, some on several at one moment.
    """
    victims = [VICTIMS[number % len(VICTIMS)]]
    victims += rng.choices(VICTIMS, weights=(4, 3, 2, 1, 1), k=rng.choice((1, 2, 2, 3)))
    together = rng.random() < 0.25
    moment = rng.uniform(0, seconds)
    strikes = [
        Strike(moment if together else rng.uniform(0, seconds), victim, rng.choice((0.0, 0.0, 0.3, 1.0)))
        for victim in victims
    ]
    return sorted(strikes, key=lambda strike: strike.at)


class Striker:
    """Carries strikes out and starts what was struck again."""

    def __init__(self, suite: Suite):
        """The suite is running."""
        self._suite = suite
        self.kills = 0
        self.faults: list[str] = []  # processes that ended without being killed, or did not come back

    def round(self, strikes: list[Strike]) -> str:
        """Carry out one round's strikes, wait until everyone serves; return what was killed, for people."""
        began = time.monotonic()
        count = itertools.count()
        agenda: list[tuple[float, int, Strike | str]] = [(s.at, next(count), s) for s in strikes]
        heapq.heapify(agenda)
        killed = []
        while agenda:
            at, _, action = heapq.heappop(agenda)
            time.sleep(max(0.0, began + at - time.monotonic()))
            if isinstance(action, str):
                self._suite.spawn(action)
            elif action.victim in self._suite.running:  # else it is down already
                self._look_after(action.victim)
                self._suite.kill(action.victim)
                self.kills += 1
                killed.append(action.victim)
                heapq.heappush(agenda, (at + action.down, next(count), action.victim))
        self.wait_all()
        return "+".join(killed)

    def wait_all(self) -> None:
        """Wait until every process serves; one that did not come back is a fault, and started once more."""
        for name in VICTIMS:
            try:
                self._suite.wait_ready(name)
            except SuiteError as error:
                self.faults.append(str(error))
                if name in self._suite.running:
                    self._suite.kill(name)
                self._suite.spawn(name)
                self._suite.wait_ready(name)

    def _look_after(self, name: str) -> None:
        code = self._suite.running[name].poll()
        if code is not None:
            self.faults.append(f"{name} ended by itself with {code}:\n{self._suite.log_end(name)}")
