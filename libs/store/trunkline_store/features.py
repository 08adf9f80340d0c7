"""What an engine does that another does not: asked for by name, never by the engine's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Features:
    """One engine's answers. Each is a promise that callers build on, so a new engine has to keep what it declares."""

    numbers_in_order: bool
    """An append-only table's numbers grow in the order of the commits, so a cursor over them misses nothing.

    Where they do not (a growing key is one hot end of a distributed table), rows carry a mark that says whether
    somebody still has to look at them: `declare.pending_column`.
    """
    shared: bool
    """Other processes may have the database open and write it: what is there may change behind one's back."""
    shared_time: bool
    """A transaction can ask the database for the time, so that processes whose clocks differ agree on leases."""
    deletes_expired: bool
    """Rows past the day that their table's `expire` names are deleted by the database itself, within days."""
    recursive_queries: bool
    """A statement may walk: WITH RECURSIVE. Elsewhere each step is a statement."""
