"""Events between rows and messages: the columns that lists filter by, and one event's whole story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa
from trunkline.gateway.v1 import event_pb2
from trunkline_runtime.api.filters import Condition, FieldType, parse
from trunkline_store.records.expiry import lives

from trunkline_gateway.events.receipts import told_message, told_receipts
from trunkline_gateway.providers.public_urls import target_of
from trunkline_gateway.schema import (
    HAS_CALL,
    JOB_ID,
    LISTED_OF_EVENTS,
    event_receipts,
    events,
    jobs,
    links_of,
    receipts,
    rejections,
)

_STATES = {
    "waiting": event_pb2.EVENT_STATE_WAITING,
    "leased": event_pb2.EVENT_STATE_PROCESSING,
    "done": event_pb2.EVENT_STATE_DONE,
    "dead": event_pb2.EVENT_STATE_DEAD_LETTER,
    "cancelled": event_pb2.EVENT_STATE_CANCELLED,
}
_ASKED_STATES = {
    "waiting": "waiting", "processing": "leased", "done": "done", "dead_letter": "dead", "cancelled": "cancelled",
}  # fmt: skip
_OF_DEAD_LETTERS = {
    "source": FieldType.STRING,
    "event_type": FieldType.STRING,
    "receive_time": FieldType.TIMESTAMP,
}
_OF_EVENTS = {
    **_OF_DEAD_LETTERS,
    "state": FieldType.choice(*_ASKED_STATES),
    "update_time": FieldType.TIMESTAMP,
    "receipt_id": FieldType.STRING,
    "call": FieldType.STRING,
    "provider_call_id": FieldType.STRING,
}
_OF_REJECTIONS = {**_OF_DEAD_LETTERS, "reason": FieldType.STRING}
_MOST = 100
_SAMPLE = 20
_SHOWN_BODY = 64 * 1024

_JOB_COLUMNS = (
    jobs.c.state, jobs.c.stage, jobs.c.attempts, jobs.c.visible_at, jobs.c.generation, jobs.c.last_error,
)  # fmt: skip


def joined() -> sa.Join:
    """Return events with their jobs."""
    mine = (jobs.c.tenant_id == events.c.tenant_id) & (jobs.c.job_id == JOB_ID)
    # Said too: a query that begins with jobs finds their events so.
    return events.join(jobs, mine & (jobs.c.subject == events.c.event_id))


def job_of(conn: sa.Connection, tenant: str, event_id: str) -> str:
    """Return the id of an event's job; of an event that is not there, one that no job has."""
    mine = (events.c.tenant_id == tenant) & (events.c.event_id == event_id)
    return conn.execute(sa.select(JOB_ID).where(mine)).scalar() or event_id


def counted(
    conn: sa.Connection, tenant: str, where: Sequence[sa.ColumnElement[bool]]
) -> tuple[int, list[str]]:
    """Return how many of `joined()` fit, and the names of the first 20 as a sample."""
    total = conn.execute(sa.select(sa.func.count()).select_from(joined()).where(*where)).scalar_one()
    first = conn.execute(oldest(where, _SAMPLE)).scalars()
    return total, [f"tenants/{tenant}/events/{event}" for event in first]


def oldest(where: Sequence[sa.ColumnElement[bool]], most: int) -> sa.Select[Any]:
    """Return the query of the ids of those of `joined()` that fit, the oldest first."""
    query = sa.select(events.c.event_id).select_from(joined()).where(*where)
    return query.order_by(events.c.received_at, events.c.event_id).limit(most)


def event_conditions(filter_: str, tenant: str) -> list[sa.ColumnElement[bool]]:
    """Return a filter's conditions over a tenant's `joined()`. Raises InvalidArgument("filter")."""
    return [_of_event(condition, tenant) for condition in parse(filter_, _OF_EVENTS)]


def dead_letter_conditions(filter_: str, tenant: str) -> list[sa.ColumnElement[bool]]:
    """Return a filter's conditions over the dead letters of `joined()`. Raises InvalidArgument("filter")."""
    return [_of_event(condition, tenant) for condition in parse(filter_, _OF_DEAD_LETTERS)]


def rejection_conditions(filter_: str) -> list[sa.ColumnElement[bool]]:
    """Return a filter's conditions over rejections. Raises InvalidArgument("filter")."""
    return [_over(condition, rejections) for condition in parse(filter_, _OF_REJECTIONS)]


def _of_event(condition: Condition, tenant: str) -> sa.ColumnElement[bool]:
    value = str(condition.value)
    match condition.field:
        case "receipt_id":
            told = sa.select(event_receipts.c.event_id)
            told = told.where(event_receipts.c.tenant_id == tenant, event_receipts.c.receipt_id == value)
            if (
                condition.op == "="
            ):  # a receipt tells of one event, which is then found by its key, not among all
                return events.c.event_id == told.limit(1).scalar_subquery()
            return events.c.event_id.not_in(told)
        case "call":
            name = value if "/" in value else f"tenants/{tenant}/calls/{value}"
            same: sa.ColumnElement[bool] = condition.over(events.c.call, name)
            return same & HAS_CALL if condition.op == "=" else same
        case "provider_call_id":
            return (
                events.c.provider_call_id == value
                if condition.op == "="
                else (sa.or_(events.c.provider_call_id != value, events.c.provider_call_id.is_(None)))
            )
        case "update_time":
            when: sa.ColumnElement[bool] = condition.over(events.c.updated_at, condition.value)
            return when
        case _:
            return _over(condition, events)


def _over(condition: Condition, table: sa.Table) -> sa.ColumnElement[bool]:
    value: Any = condition.value
    match condition.field:
        case "source":
            column: Any = table.c.source_id
            value = cast(str, value).rsplit("/", 1)[-1]
        case "event_type":
            column = table.c.event_type
        case "receive_time":
            column = table.c.received_at
        case "reason":
            column = table.c.reason
        case _:
            column = jobs.c.state
            value = _ASKED_STATES[value]
    compared: sa.ColumnElement[bool] = condition.over(column, value)
    return compared


def listed(tenant: str, conditions: Sequence[sa.ColumnElement[bool]], *more: Any) -> sa.Select[Any]:
    """Return the query of a tenant's events with what lists show, and `more` columns."""
    shown = [events.c[name] for name in ("tenant_id", "event_id", "received_at", *LISTED_OF_EVENTS)]
    query = sa.select(*shown, *_JOB_COLUMNS, *more).select_from(joined())
    return query.where(events.c.tenant_id == tenant, *conditions)


def weighed_rejections(tenant: str, now: datetime) -> sa.Select[Any]:
    """Return the query of a tenant's rejections as `weight_of` takes them; none that is past its days."""
    shown = (rejections.c.rejection_id, rejections.c.received_at)
    weights = (rejections.c.size_bytes, rejections.c.stored_bytes)
    kept = lives(rejections.c.expire_at, now)
    return sa.select(*shown, *weights).where(rejections.c.tenant_id == tenant, kept)


def weight_of(row: sa.Row[Any]) -> int:
    """Return about how many bytes a rejection takes in a list."""
    hidden: int = max(0, row.size_bytes - _SHOWN_BODY)
    return max(1, int(row.stored_bytes) - hidden)


def one_rejection(tenant: str, rejection_id: str, now: datetime) -> sa.Select[Any]:
    """Return the query of one rejection, as lists show it; none that is past its days."""
    return shown_rejections(tenant, [rejection_id]).where(lives(rejections.c.expire_at, now))


def shown_rejections(tenant: str, rejection_ids: Sequence[str]) -> sa.Select[Any]:
    """Return the query of these rejections with as much of each body as is shown."""
    shown = [column for column in rejections.c if column is not rejections.c.body]
    body = sa.func.substr(rejections.c.body, 1, _SHOWN_BODY, type_=rejections.c.body.type).label("body")
    mine = (rejections.c.tenant_id == tenant) & rejections.c.rejection_id.in_(rejection_ids)
    return sa.select(*shown, body).where(mine)


def story(conn: sa.Connection, tenant: str, event_id: str, full: bool) -> event_pb2.Event | None:
    """Return one event with its receipts and attempts, None when it is not there."""
    mine = (events.c.tenant_id == tenant) & (events.c.event_id == event_id)
    row = conn.execute(
        sa.select(events, *_JOB_COLUMNS, jobs.c.history, jobs.c.checkpoint).select_from(joined()).where(mine)
    ).one_or_none()
    if row is None:
        return None
    event = event_message(row, warnings=row.warnings or ())
    linked = links_of(tenant, [event_id])
    query = told_receipts(tenant).where(linked).order_by(event_receipts.c.seq).limit(_MOST)
    # Numbers are no order of time on Spanner.
    found = sorted(conn.execute(query), key=lambda receipt: receipt.received_at)
    event.receipts.extend(told_message(receipt, tenant) for receipt in found)
    event.receipt_count = conn.execute(
        sa.select(sa.func.count()).select_from(event_receipts).where(linked)
    ).scalar_one()
    # Reports of one job come in order; only what a lost run leaves is written when the next one begins.
    for attempt in row.history[-_MOST:]:
        event.history.add(**_attempt(attempt))
    event.checkpoint.update(row.checkpoint)
    if full:
        first = events.join(receipts, receipts.c.seq == events.c.first_seq)
        body = sa.select(receipts.c.body).select_from(first).where(mine)
        event.body = conn.execute(body).scalar_one_or_none() or b""
    return event


_OUTCOMES = {
    "advanced": "ok", "done": "ok", "failed": "retry", "not ready": "wait", "buried": "dead", "expired": "lost",
    "released": "released", "cancelled": "cancelled",
}  # fmt: skip


def _attempt(entry: Mapping[str, Any]) -> dict[str, Any]:
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


def _message(error: Mapping[str, Any] | None) -> str:
    return str(error["message"]) if error else ""


def receipt_counts(conn: sa.Connection, tenant: str, event_ids: Sequence[str]) -> Mapping[str, int]:
    """Return how many receipts told of each event, those of a page."""
    query = sa.select(event_receipts.c.event_id, sa.func.count().label("receipts"))
    query = query.where(links_of(tenant, event_ids))
    return {row.event_id: row.receipts for row in conn.execute(query.group_by(event_receipts.c.event_id))}


def warnings_of(conn: sa.Connection, tenant: str, event_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return the warnings of those of a page's events that have some: by key, as no index of a list has them."""
    mine = (events.c.tenant_id == tenant) & events.c.event_id.in_(event_ids)
    query = sa.select(events.c.event_id, events.c.warnings).where(mine)
    return {row.event_id: row.warnings for row in conn.execute(query) if row.warnings}


def event_message(row: sa.Row[Any], receipt_count: int = 0, warnings: Sequence[str] = ()) -> event_pb2.Event:
    """Return an event as lists show it."""
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
        receipt_count=receipt_count,
        update_time=row.updated_at or row.finished_at or row.received_at,
        provider_call_id=row.provider_call_id or "",
        warnings=warnings,
    )
    if row.state == "waiting":
        event.next_attempt_time.FromDatetime(row.visible_at)
    return event


def rejection_message(row: sa.Row[Any]) -> event_pb2.Rejection:
    """Return a rejection as lists show it."""
    return event_pb2.Rejection(
        name=f"tenants/{row.tenant_id}/rejections/{row.rejection_id}",
        source=f"tenants/{row.tenant_id}/sources/{row.source_id}",
        event_type=row.event_type,
        receive_time=row.received_at,
        reason=row.reason,
        headers=row.headers,
        body=row.body,
        size_bytes=row.size_bytes,
        target=target_of(row.url),
    )
