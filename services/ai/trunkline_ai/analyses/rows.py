"""Analyses as rows: kept once, read, listed, deleted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from google.protobuf.json_format import MessageToDict, ParseDict
from sqlalchemy.engine import Connection, Row
from trunkline.ai.v1 import analysis_pb2
from trunkline_runtime.api.columns import Filter, by_id, conditions
from trunkline_runtime.api.filters import FieldType
from trunkline_runtime.errors import NotFound
from trunkline_store.database import Database
from trunkline_store.hot import Hot
from trunkline_store.inserts import insert_if_absent
from trunkline_store.records.deletion import delete_keys
from trunkline_store.records.expiry import is_over, lives
from trunkline_store.records.keyset import Page, Place
from trunkline_store.records.tombstones import buried

from trunkline_ai.analyses import marks
from trunkline_ai.names import analysis_name, call_name
from trunkline_ai.schema import analyses, deleted_tenants

_ONE = Hot(
    sa.select(analyses).where(
        analyses.c.tenant_id == sa.bindparam("tenant"), analyses.c.analysis_id == sa.bindparam("analysis")
    )
)
_FILTERS = {
    "call": by_id(analyses.c.call_id),
    "engine": Filter(FieldType.STRING, analyses.c.engine),
    "create_time": Filter(FieldType.TIMESTAMP, analyses.c.created_at),
    "labels": Filter(FieldType.LIST, marks.LABELS),
    "keywords": Filter(FieldType.LIST, marks.KEYWORDS),
}
REFUSED = "refused_by"
"""In a stored result, beside the message's fields."""
_KEPT_IN_COLUMNS = ("name", "call", "engine", "create_time", "expire_time")


@dataclass(frozen=True)
class StoredAnalysis:
    """One analysis of a call; `result` is the message as plain values."""

    tenant_id: str
    analysis_id: str
    call_id: str
    generation: int
    engine: str
    result: dict[str, Any]
    created_at: datetime
    expire_at: datetime | None = None
    message: analysis_pb2.Analysis | None = field(default=None, repr=False, compare=False)
    """The message that `result` was made of, where it was made just now."""

    @property
    def values(self) -> dict[str, Any]:
        """The row."""
        return {name: value for name, value in vars(self).items() if name != "message"}

    @property
    def degraded(self) -> bool:
        """Whether a lesser engine than the configured one made it."""
        return bool(self.result.get("degraded", False))

    @property
    def stands(self) -> bool:
        """Whether asking again would not make it better."""
        return not self.degraded or bool(self.result.get("final", False))

    @property
    def refused(self) -> dict[str, str]:
        """The reasons of the engines that refused the conversation for good, by name; they are not asked again."""
        return dict(self.result.get(REFUSED, {}))

    def to_proto(self) -> analysis_pb2.Analysis:
        """The resource."""
        message = analysis_pb2.Analysis()
        if self.message is not None:  # to read it out of JSON takes ten times as long
            message.CopyFrom(self.message)
        else:
            ParseDict(self.result, message, ignore_unknown_fields=True)
        message.name = analysis_name(self.tenant_id, self.analysis_id)
        message.call = call_name(self.tenant_id, self.call_id)
        message.engine = self.engine
        message.create_time.FromDatetime(self.created_at)
        if self.expire_at is not None:
            message.expire_time.FromDatetime(self.expire_at)
        return message


def result_of(message: analysis_pb2.Analysis) -> dict[str, Any]:
    """A message as it is stored, without what the columns hold."""
    values: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return {name: value for name, value in values.items() if name not in _KEPT_IN_COLUMNS}


class Analyses:
    """The analyses of all tenants; every call names one tenant. One whose time has come is not there any more.

    `list_staleness` is how old a page may be where the engine can serve older snapshots; None is the latest.
    """

    def __init__(self, db: Database, list_staleness: timedelta | None = None) -> None:
        self._db = db
        self._list_staleness = list_staleness

    async def get(self, tenant: str, analysis: str) -> StoredAnalysis | None:
        """One analysis, None when it is not there."""
        now = self._db.clock.now()
        return await self._db.peek(lambda conn: _living(conn, tenant, analysis, now))

    async def to_make(self, tenant: str, analysis: str) -> StoredAnalysis | None:
        """One that is about to be made, None when it is not there. Raises NotFound for a deleted tenant."""
        now = self._db.clock.now()

        def look(conn: Connection) -> StoredAnalysis | None:
            if buried(conn, deleted_tenants, [tenant]):
                raise NotFound(f"tenants/{tenant}")
            return _living(conn, tenant, analysis, now)

        return await self._db.peek(look)

    async def add(self, analysis: StoredAnalysis) -> StoredAnalysis:
        """Keep an analysis unless its id is there; the one that is kept. Raises NotFound for a deleted tenant."""
        key = ["tenant_id", "analysis_id"]
        now = self._db.clock.now()

        def work(conn: Connection) -> StoredAnalysis:
            if buried(conn, deleted_tenants, [analysis.tenant_id]):
                raise NotFound(f"tenants/{analysis.tenant_id}")
            if insert_if_absent(conn, analyses, analysis.values, key):
                _mark(conn, analysis)
                return analysis
            kept = _living(conn, analysis.tenant_id, analysis.analysis_id, now)
            if kept is None:  # it waits for its deletion: the new one takes its place
                delete_keys(conn, analyses, [(analysis.tenant_id, analysis.analysis_id)])
                conn.execute(analyses.insert(), analysis.values)
                _mark(conn, analysis)
            return kept or analysis

        return await self._db.write(work)

    async def improve(self, analysis: StoredAnalysis) -> None:
        """Put a better result, or a final one, in a degraded one's place; one that is not degraded stays as it is."""
        same = (analyses.c.tenant_id == analysis.tenant_id, analyses.c.analysis_id == analysis.analysis_id)
        better = {"engine": analysis.engine, "result": analysis.result, "created_at": analysis.created_at}

        def work(conn: Connection) -> None:
            row = conn.execute(sa.select(analyses).where(*same)).first()
            if row is not None and _stored(row).degraded:
                conn.execute(sa.update(analyses).where(*same).values(**better))
                _mark(conn, replace(analysis, expire_at=row.expire_at))

        await self._db.write(work)

    async def delete(self, tenant: str, analysis: str) -> bool:
        """Delete one; False when it was not there."""
        statement = sa.delete(analyses).where(
            analyses.c.tenant_id == tenant, analyses.c.analysis_id == analysis
        )

        def work(conn: Connection) -> bool:
            marks.remove(conn, tenant, [analysis])
            return conn.execute(statement).rowcount == 1

        return await self._db.write(work)

    async def page(self, tenant: str, place: Place, filter_: str = "") -> tuple[list[StoredAnalysis], str]:
        """Analyses of a tenant, the latest first, and the next page's token. Raises InvalidArgument("filter")."""
        table = analyses.c
        living = lives(table.expire_at, self._db.clock.now())
        query = sa.select(analyses).where(table.tenant_id == tenant, living, *conditions(filter_, _FILTERS))
        page = Page(query, [table.created_at, table.analysis_id], place, descending=True)
        return await self._db.scan(page.made(_stored), staleness=self._list_staleness)


def _mark(conn: Connection, analysis: StoredAnalysis) -> None:
    marks.put(conn, analysis.tenant_id, analysis.analysis_id, analysis.result, analysis.expire_at)


def _living(conn: Connection, tenant: str, analysis: str, now: datetime) -> StoredAnalysis | None:
    row = _ONE.first(conn, {"tenant": tenant, "analysis": analysis})
    if row is None or is_over(row["expire_at"], now):
        return None
    return StoredAnalysis(**row)


def _stored(row: Row[Any]) -> StoredAnalysis:
    return StoredAnalysis(**dict(row._mapping))
