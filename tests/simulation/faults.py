"""What goes wrong in one schedule, drawn from its seed: kinds and rates first, so that schedules differ."""

from dataclasses import dataclass

# Of each chance that production code gives; a schedule has some of them, at a rate of its own.
KINDS = (
    "die_before_commit",
    "die_after_commit",
    "lose_commit",
    "lose_outcome",
    "abort",
    "repeat",
    "lose_request",
    "lose_reply",
    "cancel_late",
    "redeliver",
    "not_ready",
)
_RATES = {"abort": 0.3, "repeat": 0.2, "redeliver": 0.4, "not_ready": 0.1, "cancel_late": 1.0}
_RATE = 0.06


@dataclass(frozen=True)
class Window:
    """A trouble that lasts: (kind, whom) from `begins` to `ends`, seconds of virtual time."""

    kind: str
    whom: tuple
    begins: float
    ends: float


class Faults:
    """Asked at every point where something may go wrong; `stop` ends all of it."""

    def __init__(self, rng, loop):
        self._rng = rng
        self._loop = loop
        self.on = True
        chosen = [kind for kind in KINDS if rng.random() < 0.35]
        self._rates = {kind: rng.random() * _RATES.get(kind, _RATE) for kind in chosen}
        self.slow_wire = rng.choice((0.0, 0.0, 0.02, 0.1))  # how often a message takes seconds
        self.slow_store = rng.choice((0.0, 0.0, 0.0, 0.03))
        self.slow_stage = rng.choice((0.0, 0.05, 0.3))
        self.lasts = rng.uniform(3.0, 12.0)
        self.windows = [self._window() for _ in range(rng.choice((0, 0, 1, 2, 3)))]
        self.kills = [
            (rng.uniform(0, self.lasts), rng.choice(("gateway", "worker-1", "worker-2", "tenant", "media")))
            for _ in range(rng.choice((0, 0, 1, 2, 4)))
        ]
        self.jumps = [
            (rng.uniform(0, self.lasts), rng.choice((-20.0, -3.0, -0.5, 2.0, 6.0, 40.0)))
            for _ in range(rng.choice((0, 0, 0, 1, 2)))
        ]
        self.clean_stops = [
            (rng.uniform(0, self.lasts), rng.choice(("worker-1", "worker-2")))
            for _ in range(rng.choice((0, 0, 0, 1)))
        ]

    def __str__(self):
        rates = ", ".join(f"{kind} {rate:.3f}" for kind, rate in self._rates.items())
        return (
            f"for {self.lasts:.1f} s; {rates or 'no chances'}; slow: wire {self.slow_wire}, "
            f"store {self.slow_store}, stages {self.slow_stage}; kills {self.kills}; clock {self.jumps}; "
            f"stops {self.clean_stops}; {self.windows}"
        )

    def _window(self):
        rng = self._rng
        begins = rng.uniform(0, self.lasts)
        kind = rng.choice(("refuse", "refuse", "cut"))
        stores = (("gateway",), ("tenant",), ("spool",), ("gateway", "spool"))
        pairs = (
            ("worker-1", "gateway"),
            ("worker-2", "gateway"),
            ("gateway", "tenant"),
            ("worker-1", "media"),
        )
        whom = rng.choice(stores if kind == "refuse" else pairs)
        return Window(kind, whom, begins, begins + rng.uniform(0.3, 6.0))

    def stop(self):
        """Everything is well from here on."""
        self.on = False

    def chance(self, kind):
        """Whether this happens now, at a point where it may."""
        rate = self._rates.get(kind)
        return rate is not None and self.on and self._rng.random() < rate

    def _in_window(self, kind, hit):
        now = self._loop.time()
        return self.on and any(
            w.kind == kind and hit(w.whom) and w.begins <= now < w.ends for w in self.windows
        )

    def refuses(self, store):
        """Whether a store takes nothing now."""
        return self._in_window("refuse", lambda whom: store in whom)

    def cut(self, one, other):
        """Whether two nodes cannot reach each other now."""
        return self._in_window("cut", lambda whom: {one, other} == set(whom))

    def delay(self):
        """Seconds that a message takes, one way."""
        if self.on and self.slow_wire and self._rng.random() < self.slow_wire:
            return self._rng.uniform(0.5, 9.0)
        return self._rng.uniform(0.0005, 0.02)

    def io(self):
        """Seconds until a transaction is begun."""
        if self.on and self.slow_store and self._rng.random() < self.slow_store:
            return self._rng.uniform(0.5, 6.0)
        return self._rng.uniform(0.0005, 0.01)

    append_io = io

    def stage(self):
        """Seconds that an engine works."""
        if self.on and self._rng.random() < self.slow_stage:
            return self._rng.uniform(1.0, 12.0)
        return self._rng.uniform(0.005, 0.1)

    def downtime(self):
        """Seconds until a killed process is there again."""
        return self._rng.choice((0.05, 0.3, 2.0, 5.0))
