"""The gauges that say how much waits for workers: what their autoscaler scales by."""

from __future__ import annotations

import math

from trunkline_jobs import Depths, Queue, QueueClass
from trunkline_runtime.observe.metrics import gauge
from trunkline_store import Database

LOOK_SECONDS = 5.0
WAITING = gauge(
    "trunkline_jobs_waiting",
    "Jobs that are due and wait for a worker, by class; of each class and shard, at most 20,000 are looked at.",
    ["class"],
)
OLDEST = gauge(
    "trunkline_jobs_oldest_seconds",
    "For how long the oldest of these jobs has been due, by class.",
    ["class"],
)
DEAD_LETTERS = gauge("trunkline_dead_letters", "Events that are dead letters; at most 20,000 are looked at.")
DEAD_LETTERS.set(math.nan)  # not known before the first look: with 0, a restart would look like many new ones


class DepthGauges:
    """Sets the gauges; `look` is to be called every LOOK_SECONDS. Each gateway shows the whole queue's."""

    def __init__(self, db: Database, queue: Queue, depths: Depths) -> None:
        self._db = db
        self._queue = queue
        self._depths = depths
        for queue_class in QueueClass:
            self._show(queue_class, 0, 0.0)

    async def look(self) -> None:
        """Look once. Raises StoreError."""
        found, dead = await self._db.read(
            lambda conn: (self._depths.of(conn, self._queue.now(conn)), self._depths.dead(conn))
        )
        DEAD_LETTERS.set(dead)
        for queue_class, depth in found.items():
            self._show(queue_class, depth.jobs, depth.oldest_seconds)

    @staticmethod
    def _show(queue_class: QueueClass, jobs: int, oldest_seconds: float) -> None:
        name = queue_class.name.lower()
        WAITING.labels(name).set(jobs)
        OLDEST.labels(name).set(oldest_seconds)
