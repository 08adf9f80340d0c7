"""Readiness: whether webhooks may be sent to this gateway, told by /readyz, to operators with the reasons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class ServerHealth(Protocol):
    """What the gRPC server knows of itself."""

    @property
    def serving(self) -> bool:
        """Whether all it depends on is there."""

    @property
    def missing(self) -> Sequence[str]:
        """What is not there."""

    def problems(self) -> list[str]:
        """Return a line for each thing that it serves without."""


class InboxState(Protocol):
    """The inbox."""

    @property
    def can_take(self) -> bool:
        """Whether webhooks are kept while the store does not answer."""

    def describe(self) -> list[str]:
        """Return what is worth telling."""


class Readiness:
    """Ready also while the store is away, once it has been there: refused webhooks would be lost, spooled are not.

    gRPC's own health says NOT_SERVING then: whoever needs the store should ask elsewhere.
    """

    def __init__(self, health: ServerHealth, inbox: InboxState, refusing: Callable[[], str] = lambda: ""):
        """Not ready before the first look at the health, nor while webhooks are refused: `refusing` says why.

        A store on a full disk can be read, so that health alone would not tell.
        """
        self._refusing = refusing
        self._health = health
        self._inbox = inbox
        self._was_serving = False
        self.stopping = False

    def __call__(self) -> tuple[bool, str]:
        """Return whether it is ready, and the text of the answer."""
        if self.stopping:
            return False, "stopping"
        serving = self._health.serving
        self._was_serving |= serving
        spooling = self._was_serving and list(self._health.missing) == ["store"] and self._inbox.can_take
        ready = (serving or spooling) and not self._refusing()
        first = "ok" if ready else "not ready: " + (", ".join(self._health.missing) or "webhooks are refused")
        return ready, "\n".join([first, *self._health.problems(), *self._inbox.describe()])
