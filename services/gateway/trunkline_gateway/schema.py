"""The gateway's tables: what came in (receipts), what it told us (events), and what is to be done (jobs)."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from trunkline_jobs import jobs_table
from trunkline_store.declare import index_options, key_from, pending_column, pending_index, table_options
from trunkline_store.records.tombstones import tombstones_table
from trunkline_store.types import Bool, Bytes, Json, Text, UtcTimestamp

metadata = sa.MetaData()

# Looked at in the transaction of everything that keeps something of a tenant.
deleted_tenants = tombstones_table(metadata)

# Append-only, and nothing on it is unique beside the integer key: a second index would turn the append of 20,000
# rows a second into random page writes (docs/decisions/0003-append-only-receipts.md). On Spanner the key is a digest of
# the receipt's id, so that a receipt is found by its id too, and `pending` takes the place of the cursor.
receipts = sa.Table(
    "receipts",
    metadata,
    sa.Column(
        "seq",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
        info=key_from("receipt_id"),
    ),
    sa.Column("receipt_id", Text(32), nullable=False),
    sa.Column("source_id", Text(40), nullable=False),
    sa.Column("tenant_id", Text(40), nullable=False),  # empty while unverified
    sa.Column("event_type", Text(64), nullable=False),
    sa.Column("received_at", UtcTimestamp, nullable=False),
    sa.Column("verdict", sa.Integer, nullable=False),  # gateway.v1.Verdict
    sa.Column("content_type", Text(128), nullable=False),
    # The path and query as they came; empty once verified: only an unverified one needs them again.
    sa.Column("url", Text(2048), nullable=False),
    # Lines of `name: value`: all of an unverified one's, of a verified one's only what names the event.
    sa.Column("headers", Bytes, nullable=False),
    sa.Column("body", Bytes, nullable=False),
    pending_column(),
    pending_index("receipts_pending_by_source", "source_id", "received_at"),
    # A number is never given twice, also after the last receipts were deleted: admission's cursor stands behind it.
    sqlite_autoincrement=True,
)

# How far admission has come, on SQLite: all up to `seq` were looked at, and behind it those in admitted_ahead. Those
# that could not be decided yet stand in undecided_receipts. `token` is another one after each step.
cursors = sa.Table(
    "cursors",
    metadata,
    sa.Column("name", Text(40), primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("token", sa.BigInteger, nullable=True),
)

# Receipts that were admitted while an older one of another source waited; the cursor passes them.
admitted_ahead = sa.Table(
    "admitted_ahead",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
)

undecided_receipts = sa.Table(
    "undecided_receipts",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("source_id", Text(40), nullable=False),
    sa.Column("weight", sa.BigInteger, nullable=False, server_default=sa.text("0")),  # bytes (unverified.py)
)

# What lists show of an event beside its key: stored with the index that they go by.
_STORED_OF_EVENTS = ("source_id", "provider", "event_type", "event_time", "call", "finished_at")
LISTED_OF_EVENTS = (*_STORED_OF_EVENTS, "updated_at", "provider_call_id")

events = sa.Table(
    "events",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("event_id", Text(40), primary_key=True),
    sa.Column("source_id", Text(40), nullable=False),
    sa.Column("provider", sa.Integer, nullable=False),  # common.v1.Provider
    sa.Column("event_type", Text(64), nullable=False),
    sa.Column("received_at", UtcTimestamp, nullable=False),
    sa.Column("event_time", UtcTimestamp, nullable=True),
    sa.Column("first_seq", sa.BigInteger, nullable=False),
    sa.Column("call", Text(160), nullable=False, default=""),
    sa.Column("finished_at", UtcTimestamp, nullable=True),
    sa.Column(
        "expire_at", UtcTimestamp, nullable=True
    ),  # not deleted before it is done or dead; never when NULL
    sa.Column("warnings", Json, nullable=True),  # what of the body was left out
    # Of an event that changes a call: which changes it is one of, and a digest of what it changed the call to.
    sa.Column("revises", Text(40), nullable=True),
    sa.Column("content", Text(64), nullable=True),
    # When that change was received last, of several in a row; `received_at` where it is NULL.
    sa.Column("told_at", UtcTimestamp, nullable=True),
    # When it last changed for readers; not when a lease does, which would write an index at each claim. NULL of events
    # of earlier releases on Spanner.
    sa.Column("updated_at", UtcTimestamp, nullable=True),
    sa.Column("provider_call_id", Text(256), nullable=True),  # the most lasting; NULL: it names none
    sa.Column(
        "fetch_generation", sa.Integer, nullable=True
    ),  # replays that had its recording fetched again; NULL: 0
    # Of the replay that set it going last, in the form of a receipt's id; NULL: its first receipt's id is its trace's.
    sa.Column("trace_id", Text(32), nullable=True),
    # Its job's id; NULL: its own.
    sa.Column("job_id", Text(64), nullable=True),
    sa.Index("events_by_update", "tenant_id", "updated_at", "event_id", info=index_options()),
    # By tenant, though a sweep is for all: an index that leads with a time has one hot end.
    sa.Index(
        "events_by_expiry",
        "tenant_id",
        "expire_at",
        sqlite_where=sa.text("expire_at IS NOT NULL"),
        info=index_options(null_filtered=True),
    ),
    sa.Index(
        "events_by_time",
        "tenant_id",
        "received_at",
        "event_id",
        info=index_options(storing=_STORED_OF_EVENTS),
    ),
    # On SQLite, rows lie in the order in which they came, and only the small entries of the key in that of the digest:
    # an event whose row were among them would change a page of its own (docs/decisions/0022-background-lane.md).
)

HAS_CALL = events.c.call != sa.literal_column("''")
"""Said beside which call it is, in words of the index: SQLite has the events of calls there only, which spares each new
event an entry."""

sa.Index(
    "events_by_call",
    events.c.tenant_id,
    events.c.call,
    events.c.received_at,
    events.c.event_id,
    sqlite_where=HAS_CALL,
    info=index_options(),
)

sa.Index(
    "events_by_revised",
    events.c.tenant_id,
    events.c.revises,
    events.c.received_at,
    sqlite_where=events.c.revises.is_not(None),
    info=index_options(null_filtered=True, storing=("content",)),
)

sa.Index(
    "events_by_provider_call",
    events.c.tenant_id,
    events.c.provider_call_id,
    events.c.received_at,
    events.c.event_id,
    sqlite_where=events.c.provider_call_id.is_not(None),
    info=index_options(),
)

# Which receipts told us of which event: a redelivery adds a row here and nothing else. One whose body is that of the
# event's first receipt keeps none of its own, only how large it was (redeliveries.py). The index is here and not on
# the receipts, whose append bears none; ids of one process grow, so its writes lie side by side. So do the rows, on
# SQLite: they are in the order of the receipts, and an event finds its first one by `first_seq` (links_of).
event_receipts = sa.Table(
    "event_receipts",
    metadata,
    sa.Column("tenant_id", Text(40), nullable=False),
    sa.Column("event_id", Text(40), nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("repeated_bytes", sa.BigInteger, nullable=True),
    # NULL of those that were admitted by an earlier release, on Spanner.
    sa.Column("receipt_id", Text(32), nullable=True),
    # Whether the event's `first_seq` names it; NULL: it does not, or an earlier release admitted it.
    sa.Column("first", Bool, nullable=True),
    sa.PrimaryKeyConstraint("seq", "tenant_id", "event_id"),
    sa.Index("event_receipts_by_id", "tenant_id", "receipt_id", info=index_options()),
    sqlite_with_rowid=False,
    info=table_options(interleave_in="events", key=("tenant_id", "event_id", "seq")),
)

NOT_FIRST = event_receipts.c.first.is_(None)
"""Said beside which event a receipt tells of, in words of the index: SQLite has the others there only."""

# Spanner's key of the table does this.
sa.Index(
    "event_receipts_by_event",
    event_receipts.c.tenant_id,
    event_receipts.c.event_id,
    sqlite_where=NOT_FIRST,
).ddl_if(dialect="sqlite")

# Bytes of the receipts of each tenant's events (kept.py): written with what they count, in the same transaction. In
# parts, since a row that every admission writes is one that they wait for each other at; their sum is what counts.
kept_bytes = sa.Table(
    "kept_bytes",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)

# Receipts that admission found to be no event, or could not write as one: all that says when they are to go.
eventless_receipts = sa.Table(
    "eventless_receipts",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tenant_id", Text(40), nullable=False),
    sa.Column("expire_at", UtcTimestamp, nullable=True),
    sa.Column("receipt_id", Text(32), nullable=True),
    # Of the body as it came, which a rejection holds now. NULL of those of earlier releases.
    sa.Column("size_bytes", sa.BigInteger, nullable=True),
    sa.Index("eventless_receipts_by_id", "tenant_id", "receipt_id", info=index_options()),
    sa.Index("eventless_receipts_by_expiry", "tenant_id", "expire_at", info=index_options()),
)

# Requests with a wrong signature, kept where an operator can look at them; the oldest go first (intake/rejections.py).
rejections = sa.Table(
    "rejections",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("rejection_id", Text(40), primary_key=True),
    sa.Column("source_id", Text(40), nullable=False),
    sa.Column("event_type", Text(64), nullable=False),
    sa.Column("received_at", UtcTimestamp, nullable=False),
    sa.Column("reason", Text(400), nullable=False),
    sa.Column("url", Text(2048), nullable=False),  # the path and query as they came
    sa.Column("headers", Json, nullable=False),  # a few, cut: it may be verified again (hooks/headers.py)
    sa.Column("body", Bytes, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),  # of the body as it came
    sa.Column("expire_at", UtcTimestamp, nullable=True),
    sa.Column("stored_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),  # all that is kept
    sa.Index("rejections_by_expiry", "tenant_id", "expire_at", info=index_options(null_filtered=True)),
    sa.Index("rejections_by_time", "tenant_id", "received_at", "rejection_id", info=index_options()),
    # Each source's, the latest first, with what they weigh: trimmed and counted without a look at a body.
    sa.Index(
        "rejections_by_source",
        "tenant_id",
        "source_id",
        "received_at",
        "rejection_id",
        "stored_bytes",
        info=index_options(),
    ),
    info=table_options(expire=("expire_at", 0)),
)

REPLAYS_KEPT_DAYS = 30

# Replays of many events, and how far each has come (events/replays.py). One that runs has a task.
replays = sa.Table(
    "replays",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("replay_id", Text(40), primary_key=True),
    sa.Column("filter", Text(2000), nullable=False),
    sa.Column("force", Bool, nullable=False),
    sa.Column("rate", sa.Float, nullable=False),
    sa.Column("event_count", sa.BigInteger, nullable=False),
    sa.Column("replayed_count", sa.BigInteger, nullable=False),
    sa.Column("sample", Json, nullable=False),
    sa.Column("created_at", UtcTimestamp, nullable=False),
    sa.Column("finished_at", UtcTimestamp, nullable=True),
    sa.Column("steps", sa.BigInteger, nullable=False),
    sa.Column("after_time", UtcTimestamp, nullable=True),
    sa.Column("after_id", Text(40), nullable=False),
    sa.Column("error", Text(600), nullable=True),  # of one that failed: why
    sa.Column("fetch_again", Bool, nullable=True),  # NULL of replays of earlier releases: no
    sa.Index("replays_by_time", "tenant_id", "created_at", "replay_id", info=index_options()),
    info=table_options(expire=("finished_at", REPLAYS_KEPT_DAYS)),
)

# An event's job is about the event, and has the event's id or the one that the event names (JOB_ID).
jobs = jobs_table(metadata, by_subject=False)

JOB_ID = sa.func.coalesce(events.c.job_id, events.c.event_id)
"""The id of an event's job."""

# The gateway's own work: replays, deletions of tenants, sweeps, and whatever waits to be looked at again.
tasks = jobs_table(metadata, "tasks")


def links_of(tenant: str, event_ids: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a link between a receipt and an event is of one of these events.

    On SQLite a receipt's link lies beside those that came before it, so that one that tells of a new event changes no
    page in the order of a digest. Only links that are not the first of their event are listed by event there; the
    first is named by `first_seq`. On Spanner the key of the links begins with the event, and finds all of them.

    The numbers are looked up before the links, not beside them: SQLite takes an OR for a reason to read all links of
    the tenant.
    """
    links = event_receipts.c
    others = sa.select(links.seq).where(links.tenant_id == tenant, links.event_id.in_(event_ids), NOT_FIRST)
    firsts = sa.select(events.c.first_seq)
    firsts = firsts.where(events.c.tenant_id == tenant, events.c.event_id.in_(event_ids))
    numbers = sa.union_all(others.correlate(None), firsts.correlate(None))
    return sa.and_(links.tenant_id == tenant, links.event_id.in_(event_ids), links.seq.in_(numbers))
