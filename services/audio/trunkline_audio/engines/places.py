"""The places for recordings that are transcribed at once, and who gets one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TENANTS_SHARE = 0.75
"""Of the places for recordings: the rest is left to others, however many hours of sound one tenant brings."""
LONG_SHARE = 0.5
"""Of the places: long recordings hold theirs for long, and leave the rest to short ones."""
LONG_SECONDS = 600.0
"""A recording is long beyond this."""
LOWER_CLASSES_SHARE = 0.75
"""Of the places: the rest is left to the highest class."""


@dataclass(frozen=True)
class Guest:
    """A recording that has a place, or wants one; `priority` is its class, 0 the highest."""

    tenant: str
    seconds: float
    priority: int

    @property
    def is_long(self) -> bool:
        """Whether it holds its place for long."""
        return self.seconds > LONG_SECONDS


def has_room(places: int, guest: Guest, guests: Sequence[Guest]) -> bool:
    """Say whether a recording gets one of the places beside those that have one.

    A tenant, all long recordings, and all recordings of lower classes may take a share each.
    """
    of_tenant = sum(other.tenant == guest.tenant for other in guests)
    long = sum(other.is_long for other in guests) if guest.is_long else 0
    lower = sum(other.priority > 0 for other in guests) if guest.priority else 0
    return (
        len(guests) < places
        and of_tenant < math.ceil(places * TENANTS_SHARE)
        and long < math.ceil(places * LONG_SHARE)
        and lower < math.ceil(places * LOWER_CLASSES_SHARE)
    )
