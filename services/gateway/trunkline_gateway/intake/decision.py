"""Decide: what one receipt is, as a pure function of the receipt and its source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from trunkline.common.v1 import provider_pb2
from trunkline_jobs import NewJob
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.process.periodic import SET_ASIDE, place_of

from trunkline_gateway import ids
from trunkline_gateway.hooks import encodings
from trunkline_gateway.hooks.headers import kept_of, kept_of_anybody, unpack
from trunkline_gateway.intake.rejections import rejection_row
from trunkline_gateway.providers.base import Delivery, Malformed, Rejected, Source
from trunkline_gateway.providers.public_urls import public_url
from trunkline_gateway.providers.registry import adapter_for
from trunkline_gateway.receipts import UNVERIFIED, VERIFIED, Receipt

log = get_logger(__name__)

FIRST_STAGE = "normalise"

_MOST_CALL_ID = 256
BARE_KEPT_DAYS = 90
"""Of a receipt that could not be written as anything, where nothing says how long events are kept."""


@dataclass(slots=True)  # not frozen: that would cost a microsecond a receipt
class Decision:
    """What one receipt is found to be: one of event, rejection, bare, unknown or undecided. Nobody changes it."""

    seq: int
    source_id: str
    event: dict[str, Any] | None = None  # a row of `events`
    job: NewJob | None = None
    rejection: dict[str, Any] | None = None
    bare: dict[str, Any] | None = None
    """Whose a receipt is that could become nothing else, and when it goes: it can be looked at, and no more."""
    undecided: bool = False
    body: bytes | None = field(default=None, repr=False)
    """What takes the place of a body that came compressed, once it is verified."""
    receipt_id: str = ""
    """Of a receipt that is not of the batch: one whose event was cut in two."""
    moved: Sequence[tuple[int, str, int | None]] = ()
    """Further such receipts of the event: number, id, and the size of a body that repeats the first's."""

    @property
    def tenant_id(self) -> str:
        """Whose it is; empty while nobody knows."""
        row = self.event or self.rejection or self.bare
        tenant: str = row["tenant_id"] if row else ""
        return tenant


def set_aside(decision: Decision, why: str) -> Decision | None:
    """Return the dead letter that an event becomes that cannot be written, with the reason; None for anything else."""
    if decision.event is None or decision.job is None:
        return None
    plain = {"event_time": None, "warnings": None, "revises": None, "content": None, "told_at": None}
    job = replace(decision.job, group_key=None, dead={"message": why})
    return replace(decision, event={**decision.event, **plain}, job=job)


def bare(decision: Decision, row: Receipt) -> Decision:
    """Return what becomes of a receipt that cannot be written in any other way: a row by which it is found.

    It can become nothing else, so it goes some day, also where events are kept for good.
    """
    left = decision.event or decision.rejection or {"tenant_id": row.tenant_id, "expire_at": None}
    expire_at = left["expire_at"] or row.received_at + timedelta(days=BARE_KEPT_DAYS)
    return Decision(
        decision.seq, decision.source_id, bare={"tenant_id": left["tenant_id"], "expire_at": expire_at}
    )


def decide(
    row: Receipt, source: Source | None, unsure: bool, events_days: int = 0, base_url: str = ""
) -> Decision:
    """Say what a receipt is. Pure: the same receipt, source and settings always give the same decision.

    `base_url` is what providers post to, as it is set today; `events_days` is how long events are kept whose tenant's
    retention says nothing, 0 for good.
    """
    if unsure:  # the tenant service cannot be asked: a verified receipt waits for its source's adapter too
        return Decision(row.seq, row.source_id, undecided=True)
    days = (source.retention.events_days if source else 0) or events_days
    expire_at = row.received_at + timedelta(days=days) if days else None
    if source is None or (row.verdict == UNVERIFIED and not source.accepting):
        return _without_source(row, expire_at)
    delivery = Delivery(
        row.body,
        {"content-type": row.content_type, **(unpack(row.headers) if row.headers else {})},
        public_url(base_url, row.url) if row.url else "",
        row.received_at,
        row.url,
    )
    if row.verdict == UNVERIFIED:
        try:
            verified = encodings.verified_as_written(source, delivery)
        except Malformed as damaged:  # signed by its sender, and damaged
            return _unreadable(row, source, expire_at, str(damaged))
        except (Rejected, encodings.UnknownEncoding) as rejected:
            return _rejected(row, source, delivery, expire_at, str(rejected))
        except Exception as error:  # nobody knows whose it is: it can be accepted when the fault is mended
            why = f"it could not be verified ({_note(row, error)})"
            return _rejected(row, source, delivery, expire_at, why)
        if verified is not delivery:
            plain = row._replace(body=verified.body, verdict=VERIFIED)
            return replace(decide(plain, source, unsure, events_days, base_url), body=verified.body)
    try:
        identity = adapter_for(source.provider).identify(source, row.event_type, delivery)
    except Malformed as malformed:
        return _unreadable(row, source, expire_at, str(malformed))
    except Exception as error:
        return _unreadable(row, source, expire_at, f"the body could not be read ({_note(row, error)})")
    alias = identity.call_aliases[0] if identity.call_aliases else ""
    decision = _event(row, source, identity.dedup_fields, identity.event_time, alias, expire_at)
    if identity.revises and decision.event is not None:
        # Of changes with different times the times say which was last; what is told again of one is a redelivery.
        at = identity.event_time.isoformat() if identity.event_time else ""
        changed = (source.source_id, row.event_type, alias, at)
        decision.event["revises"] = ids.digest_id("v", changed)
        decision.event["content"] = identity.revises
    return decision


def _note(row: Receipt, error: Exception) -> str:
    """Log what no adapter foresaw, and name it: it is one sender's trouble, and must not end everybody's admission."""
    kind = type(error).__name__
    log.error(
        "receipt_unreadable", source=row.source_id, receipt=row.receipt_id, error=kind, at=place_of(error)
    )
    SET_ASIDE.labels("admission").inc()
    return kind


def _rejected(
    row: Receipt, source: Source, delivery: Delivery, expire_at: datetime | None, reason: str
) -> Decision:
    named = kept_of(source, delivery.headers)
    kept = rejection_row(source.tenant_id, source.source_id, row.event_type, delivery, named, reason)
    return Decision(row.seq, row.source_id, rejection=kept | {"expire_at": expire_at})


def _unreadable(row: Receipt, source: Source, expire_at: datetime | None, why: str) -> Decision:
    """Return a dead letter; the same unreadable body twice is one."""
    body_hash = ids.digest_id("b", (row.body.hex(),))
    return _event(row, source, ("malformed", body_hash), None, "", expire_at, dead=why)


def _without_source(row: Receipt, expire_at: datetime | None) -> Decision:
    """Keep a receipt of no source: of a verified one its tenant sees a dead letter, of another only operators know."""
    if row.verdict == VERIFIED:
        gone = Source(row.source_id, row.tenant_id, provider_pb2.PROVIDER_UNSPECIFIED, ())
        why = "the source was deleted"
        return _event(row, gone, ("deleted", row.receipt_id), None, "", expire_at, dead=why)
    delivery = Delivery(row.body, unpack(row.headers), row.url, row.received_at, row.url)
    named, why = kept_of_anybody(delivery.headers), "there is no such source"
    kept = rejection_row(row.tenant_id, row.source_id, row.event_type, delivery, named, why)
    return Decision(row.seq, row.source_id, rejection=kept | {"expire_at": expire_at})


def _event(
    row: Receipt,
    source: Source,
    dedup_fields: Iterable[str],
    event_time: datetime | None,
    alias: str,
    expire_at: datetime | None,
    dead: str | None = None,
) -> Decision:
    event_id = ids.event_id(source.source_id, row.event_type, dedup_fields)
    event = {
        "tenant_id": source.tenant_id,
        "event_id": event_id,
        "source_id": source.source_id,
        "provider": int(source.provider),
        "event_type": row.event_type,
        "received_at": row.received_at,
        "event_time": event_time,
        "first_seq": row.seq,
        "call": "",
        "finished_at": None,
        "expire_at": expire_at,
        "warnings": None,
        "revises": None,
        "content": None,
        "told_at": None,
        "updated_at": row.received_at,
        "provider_call_id": alias[:_MOST_CALL_ID] or None,
        "job_id": (job_id := f"j{row.seq:012x}"),
    }
    job = NewJob(
        job_id=job_id,
        tenant_id=source.tenant_id,
        subject=event_id,
        kind="event",
        stage=FIRST_STAGE,
        group_key=ids.group_key(source.tenant_id, source.source_id, alias) if alias else None,
        dead={"message": dead} if dead else None,
    )
    return Decision(row.seq, row.source_id, event=event, job=job)
