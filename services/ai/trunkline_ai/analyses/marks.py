"""What lists find analyses by, beside them: a row for each label that applies and each keyword that was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_store.hot import Hot

from trunkline_ai.schema import analyses, analysis_marks

_LABEL = "label:"
_KEYWORD = "keyword:"
_YES = "ANSWER_YES"
_REMOVE = Hot(
    sa.delete(analysis_marks).where(
        analysis_marks.c.tenant_id == sa.bindparam("tenant"),
        analysis_marks.c.analysis_id.in_(sa.bindparam("analyses", expanding=True)),
    )
)


@dataclass(frozen=True, slots=True)
class MarkList:
    """A list of names that a filter asks for with `:`."""

    prefix: str

    def has(self, name: str) -> sa.ColumnElement[bool]:
        """Return the condition of the analyses that have a mark of this name."""
        marks = analysis_marks.c
        theirs = sa.select(marks.analysis_id).where(
            marks.tenant_id == analyses.c.tenant_id,
            marks.mark == f"{self.prefix}{name}",
            marks.analysis_id == analyses.c.analysis_id,
        )
        return sa.exists(theirs)


LABELS = MarkList(_LABEL)
KEYWORDS = MarkList(_KEYWORD)


def put(
    conn: Connection, tenant: str, analysis: str, result: dict[str, Any], expire_at: datetime | None
) -> None:
    """Write the marks of an analysis's result in place of those that it has."""
    remove(conn, tenant, [analysis])
    rows = [
        {"tenant_id": tenant, "mark": mark, "analysis_id": analysis, "expire_at": expire_at}
        for mark in _of(result)
    ]
    if rows:
        conn.execute(analysis_marks.insert(), rows)


def remove(conn: Connection, tenant: str, ids: Sequence[str]) -> None:
    """Delete the marks of analyses."""
    _REMOVE.run(conn, {"tenant": tenant, "analyses": list(ids)})


def _of(result: dict[str, Any]) -> list[str]:
    labels = [f"{_LABEL}{one['name']}" for one in result.get("labels", ()) if one.get("answer") == _YES]
    said = [f"{_KEYWORD}{one['keyword']}" for one in result.get("keywords", ())]
    return sorted({*labels, *said})
