"""Pages by key: where the last page ended, as a condition that every engine takes (Spanner has no row values)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa


def behind(
    key: Sequence[sa.ColumnElement[Any]], last: Sequence[Any], *, descending: bool
) -> sa.ColumnElement[bool]:
    """Return the condition of rows that come after `last` in the order of `key`, which is unique and has no NULLs.

    (a, b) > (x, y) is written a >= x AND (a > x OR b > y): the first part is a range of an index.
    """
    column, *columns = key
    value, *values = last
    further: sa.ColumnElement[bool] = column < value if descending else column > value
    if not columns:
        return further
    reached = column <= value if descending else column >= value
    return sa.and_(reached, sa.or_(further, behind(columns, values, descending=descending)))
