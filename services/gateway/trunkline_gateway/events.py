"""EventService: an event's whole story, lists of events, and the requests that were rejected."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, cast

import grpc
import sqlalchemy as sa
from trunkline.gateway.v1 import event_pb2, event_service_pb2_grpc
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline_runtime import paging
from trunkline_runtime.errors import NotFound
from trunkline_runtime.filters import Condition, FieldType, parse
from trunkline_runtime.resources import parse as parse_name
from trunkline_store import Database

from trunkline_gateway.schema import event_receipts, events, jobs, receipts, rejections

_STATES = {
    "waiting": event_pb2.EVENT_STATE_WAITING,
    "leased": event_pb2.EVENT_STATE_PROCESSING,
    "done": event_pb2.EVENT_STATE_DONE,
    "dead": event_pb2.EVENT_STATE_DEAD_LETTER,
}
_ASKED_STATES = {"waiting": "waiting", "processing": "leased", "done": "done", "dead_letter": "dead"}
_FIELDS = {
    "source": FieldType.STRING,
    "event_type": FieldType.STRING,
    "state": FieldType.choice(*_ASKED_STATES),
    "receive_time": FieldType.TIMESTAMP,
}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_MOST = 100


class EventService(event_service_pb2_grpc.EventServiceServicer):
    """The servicer, reading the store only."""

    def __init__(self, db: Database):
        """`db` is the gateway's own."""
        self._db = db

    async def GetEvent(
        self, request: pb.GetEventRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> event_pb2.Event:
        """Show one event with its receipts and attempts."""
        ids = parse_name("tenants/{tenant}/events/{event}", request.name)
        full = request.view == pb.EVENT_VIEW_FULL
        event = await self._db.read(lambda conn: _story(conn, ids["tenant"], ids["event"], full))
        if event is None:
            raise NotFound(request.name)
        return event

    async def ListEvents(
        self, request: pb.ListEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListEventsResponse:
        """List a tenant's events, the latest received first."""
        tenant = parse_name("tenants/{tenant}", request.parent)["tenant"]
        conditions = parse(request.filter, _FIELDS)
        digest = paging.digest_of_request(request.parent, request.filter)
        query = _page(_listed(tenant, conditions), events.c.received_at, events.c.event_id, request, digest)
        rows = await self._db.read(lambda conn: conn.execute(query).all())
        rows, token = _cut(rows, request, digest, lambda row: (row.received_at, row.event_id))
        return pb.ListEventsResponse(events=[_event(row) for row in rows], next_page_token=token)

    async def ListRejections(
        self, request: pb.ListRejectionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListRejectionsResponse:
        """List a tenant's rejected requests, the latest first."""
        tenant = parse_name("tenants/{tenant}", request.parent)["tenant"]
        digest = paging.digest_of_request(request.parent)
        mine = sa.select(rejections).where(rejections.c.tenant_id == tenant)
        query = _page(mine, rejections.c.received_at, rejections.c.rejection_id, request, digest)
        rows = await self._db.read(lambda conn: conn.execute(query).all())
        rows, token = _cut(rows, request, digest, lambda row: (row.received_at, row.rejection_id))
        return pb.ListRejectionsResponse(rejections=[_rejection(row) for row in rows], next_page_token=token)


_ListRequest = pb.ListEventsRequest | pb.ListRejectionsRequest


def _page(
    query: sa.Select[Any], time: Any, row_id: Any, request: _ListRequest, digest: str
) -> sa.Select[Any]:
    """Order by time and id, the latest first, from where the page token says, one row more than the page."""
    key = paging.decode(request.page_token, digest)
    if key is not None:
        query = query.where(sa.or_(time < key[0], sa.and_(time == key[0], row_id < key[1])))
    return query.order_by(time.desc(), row_id.desc()).limit(paging.page_size(request.page_size) + 1)


def _cut(
    rows: Sequence[sa.Row[Any]],
    request: _ListRequest,
    digest: str,
    key: Callable[[sa.Row[Any]], Sequence[Any]],
) -> tuple[Sequence[sa.Row[Any]], str]:
    """Return the page, and the token of the next one when there is one."""
    size = paging.page_size(request.page_size)
    return rows[:size], paging.encode(key(rows[size - 1]), digest) if len(rows) > size else ""


_JOB_COLUMNS = (
    jobs.c.state, jobs.c.stage, jobs.c.attempts, jobs.c.visible_at, jobs.c.generation, jobs.c.last_error,
)  # fmt: skip


def _joined() -> sa.Join:
    return events.join(jobs, jobs.c.job_id == events.c.event_id)


def _listed(tenant: str, conditions: Sequence[Condition]) -> sa.Select[Any]:
    query = sa.select(events, *_JOB_COLUMNS).select_from(_joined()).where(events.c.tenant_id == tenant)
    for condition in conditions:
        value: Any = condition.value
        match condition.field:
            case "source":
                column: Any = events.c.source_id
                value = cast(str, value).rsplit("/", 1)[-1]
            case "event_type":
                column = events.c.event_type
            case "receive_time":
                column = events.c.received_at
            case _:
                column = jobs.c.state
                value = _ASKED_STATES[value]
        query = query.where(_COMPARE[condition.op](column, value))
    return query


def _story(conn: sa.Connection, tenant: str, event_id: str, full: bool) -> event_pb2.Event | None:
    mine = (events.c.tenant_id == tenant) & (events.c.event_id == event_id)
    row = conn.execute(
        sa.select(events, *_JOB_COLUMNS, jobs.c.history, jobs.c.checkpoint).select_from(_joined()).where(mine)
    ).one_or_none()
    if row is None:
        return None
    event = _event(row)
    linked = (event_receipts.c.tenant_id == tenant) & (event_receipts.c.event_id == event_id)
    links = event_receipts.join(receipts, receipts.c.seq == event_receipts.c.seq)
    size = sa.func.length(receipts.c.body).label("size")
    query = (
        sa.select(receipts.c.receipt_id, receipts.c.received_at, receipts.c.verdict, size)
        .select_from(links)
        .where(linked)
        .order_by(event_receipts.c.seq)
        .limit(_MOST)
    )
    for receipt in conn.execute(query):
        event.receipts.add(
            receipt_id=receipt.receipt_id,
            receive_time=receipt.received_at,
            size_bytes=receipt.size,
            verdict=receipt.verdict,
        )
    event.receipt_count = conn.execute(
        sa.select(sa.func.count()).select_from(event_receipts).where(linked)
    ).scalar_one()
    for attempt in row.history[-_MOST:]:
        event.history.add(**_attempt(attempt))
    event.checkpoint.update(row.checkpoint)
    if full:
        body = sa.select(receipts.c.body).where(receipts.c.seq == row.first_seq)
        event.body = conn.execute(body).scalar_one_or_none() or b""
    return event


_OUTCOMES = {
    "advanced": "ok", "done": "ok", "failed": "retry", "not ready": "wait", "buried": "dead", "expired": "lost",
    "released": "released",
}  # fmt: skip


def _attempt(entry: dict[str, Any]) -> dict[str, Any]:
    attempt = {
        "stage": entry["stage"],
        "worker": entry["owner"] or "",
        "end_time": datetime.fromisoformat(entry["at"]),
        "outcome": _OUTCOMES[entry["outcome"]],
        "error": _message(entry.get("error")),
    }
    if "began" in entry:
        attempt["start_time"] = datetime.fromisoformat(entry["began"])
    return attempt


def _message(error: dict[str, Any] | None) -> str:
    return str(error["message"]) if error else ""


def _event(row: sa.Row[Any]) -> event_pb2.Event:
    event = event_pb2.Event(
        name=f"tenants/{row.tenant_id}/events/{row.event_id}",
        source=f"tenants/{row.tenant_id}/sources/{row.source_id}",
        provider=row.provider,
        event_type=row.event_type,
        state=_STATES[row.state],
        receive_time=row.received_at,
        event_time=row.event_time,
        finish_time=row.finished_at,
        call=row.call,
        stage=row.stage,
        attempts=row.attempts,
        last_error=_message(row.last_error),
        generation=row.generation,
    )
    if row.state == "waiting":
        event.next_attempt_time.FromDatetime(row.visible_at)
    return event


def _rejection(row: sa.Row[Any]) -> event_pb2.Rejection:
    return event_pb2.Rejection(
        name=f"tenants/{row.tenant_id}/rejections/{row.rejection_id}",
        source=f"tenants/{row.tenant_id}/sources/{row.source_id}",
        event_type=row.event_type,
        receive_time=row.received_at,
        reason=row.reason,
        headers=row.headers,
        body=row.body,
        size_bytes=row.size_bytes,
    )
