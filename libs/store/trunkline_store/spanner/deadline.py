"""How long the store waits for Spanner: a deadline for each piece of work, and one line that all of them are on."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from trunkline_store.spanner.errors import OutOfTime


class Reachability:
    """Whether Spanner answers, as all threads of a process see it together; cut once nobody is to wait any more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way = 0
        self._since: float | None = None
        self._cut = threading.Event()

    def asked(self) -> None:
        """Note that a call was begun."""
        with self._lock:
            self._under_way += 1
            if self._since is None:
                self._since = self._clock()

    def ended(self, *, answered: bool) -> None:
        """Note that a call has ended, with Spanner's answer or without any."""
        with self._lock:
            self._under_way -= 1
            if answered:
                self._since = self._clock() if self._under_way else None

    def silent_for(self) -> float:
        """Return for how many seconds Spanner has owed an answer: 0 when it owes none."""
        since = self._since
        return 0.0 if since is None else self._clock() - since

    def cut(self) -> None:
        """Let every deadline on this line pass now; who pauses goes on."""
        self._cut.set()

    @property
    def is_cut(self) -> bool:
        """Whether it was cut."""
        return self._cut.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until it is cut; whether it is."""
        return self._cut.wait(seconds)


class Deadline:
    """A moment by which something must have ended; sooner when its line is cut."""

    def __init__(self, seconds: float, line: Reachability | None = None) -> None:
        self._end = time.monotonic() + seconds
        self._line = line or Reachability()

    def left(self) -> float:
        """Return the seconds that are left; OutOfTime when none are."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise OutOfTime("the deadline passed")
        if self._line.is_cut:
            raise OutOfTime("the database is being closed and Spanner does not answer")
        return left

    def pause(self, attempt: int, asked: float | None = None) -> None:
        """Wait before the next attempt: what the server asked, else a jittered, growing while."""
        wait = asked if asked is not None else 0.01 * 2 ** min(attempt, 7)
        wait *= random.uniform(0.5, 1.0) if asked is None else random.uniform(1.0, 1.2)  # noqa: S311 - jitter
        if wait >= self.left():
            raise OutOfTime("the deadline passed while it was tried again")
        if self._line.wait(wait):
            self.left()
