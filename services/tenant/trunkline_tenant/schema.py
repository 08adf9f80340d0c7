"""The tables of the tenant service; the tenant's id leads the key of everything a tenant owns.

Facts of a call are kept twice on purpose: once as the message that is shown (`facts`), and once as the
columns that lists filter and sort by. Both are written by one function (`call_rows.columns_of`).

What a list shows stands in its index on Spanner (STORING), so that a page is read from one place. Of calls, which
are large, only the index by time stores it: a filter that has an index of its own reads the rows of its page.
"""

from __future__ import annotations

import sqlalchemy as sa
from trunkline_store import Bool, Bytes, Json, Text, UtcTimestamp
from trunkline_store.declare import commit_time_column, index_options, table_options

metadata = sa.MetaData()

# What a lead is derived from, beside the key of its index.
_LEAD_FACTS = ("lead_level", "lead_score", "intent", "caller_name")
# What a list of calls shows or filters by, and a list of leads shows.
_LISTED_CALL = (
    "provider", "provider_account", "provider_call_id", "facts", "last_event_time", "kind", "source_id",
    "caller_number", "spam", "sentiment", "intent", "lead_level", "lead_score", "lead_id", "etag",
    "create_time", "update_time",
)  # fmt: skip
_LISTED_LEAD = (
    "phone_number", "display_name", "call_count", "lead_level", "lead_score", "first_call_time",
    "last_call_time", "last_call_id", "create_time",
)  # fmt: skip


def _lead_columns_beside(*key: str) -> list[str]:
    return [name for name in _LISTED_LEAD if name not in key]


tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("display_name", Text(120), nullable=False),
    sa.Column("state", sa.BigInteger, nullable=False),
    # The Retention message.
    sa.Column("retention", Bytes, nullable=False),
    # Set on a tombstone, which is all that is left of a deleted tenant.
    sa.Column("delete_time", UtcTimestamp),
    sa.Column("purge_time", UtcTimestamp),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("create_time", UtcTimestamp, nullable=False),
    sa.Column("update_time", UtcTimestamp, nullable=False),
    sa.Column("plan", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    # The SpeechSettings message; NULL of tenants that never had any.
    sa.Column("speech_settings", Bytes, nullable=True),
    # The AnalysisSettings message; NULL of tenants that never had any.
    sa.Column("analysis_settings", Bytes, nullable=True),
    # The Budget message; NULL of tenants that never had one.
    sa.Column("budget", Bytes, nullable=True),
)

sources = sa.Table(
    "sources",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("source_id", Text(40), primary_key=True),
    sa.Column("provider", sa.BigInteger, nullable=False),
    sa.Column("state", sa.BigInteger, nullable=False),
    # The Source message without name, secrets and what the other columns hold.
    sa.Column("options", Bytes, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("create_time", UtcTimestamp, nullable=False),
    sa.Column("update_time", UtcTimestamp, nullable=False),
    # A hook's path holds the bare id, so it is unique in the suite.
    sa.Index("sources_by_id", "source_id", unique=True, info=index_options()),
    info=table_options(interleave_in="tenants"),
)

source_secrets = sa.Table(
    "source_secrets",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("source_id", Text(40), primary_key=True),
    sa.Column("secret_id", Text(40), primary_key=True),
    sa.Column("purpose", Text(16), nullable=False),
    sa.Column("sealed", Bytes, nullable=False),
    # Which of the configured keys sealed it, so that a rotation finds what it has to seal again.
    sa.Column("key_print", Text(16), nullable=False),
    # Grows with each rotation: the greatest is the newest.
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("expire_time", UtcTimestamp),
    # What a lasting secret beside the source's own is called.
    sa.Column("label", Text(64)),
    info=table_options(interleave_in="sources", expire=("expire_time", 1)),
)

# The last change of each source, a deleted one too: what a watcher is told, without a log that grows. Not under its
# tenant, whom it outlives, and without a TTL: what is forgotten is counted in the same transaction.
source_changes = sa.Table(
    "source_changes",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("source_id", Text(40), primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("deleted", Bool, nullable=False),
    commit_time_column("change_time"),
    # Changes are rare (people configure sources), so that this index ends in a hot spot does not matter.
    sa.Index("source_changes_by_revision", "revision", info=index_options(storing=("deleted",))),
)

# One row: the last revision given, and the revision up to which deletions were forgotten.
source_revision = sa.Table(
    "source_revision",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("forgotten", sa.BigInteger, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("key_id", Text(40), primary_key=True),
    sa.Column("display_name", Text(120), nullable=False),
    sa.Column("role", sa.BigInteger, nullable=False),
    sa.Column("secret_hash", Bytes, nullable=False),
    sa.Column("expire_time", UtcTimestamp),
    sa.Column("create_time", UtcTimestamp, nullable=False),
    # Set on a revoked key, which nothing shows any more: its holder is told for a while what became of it.
    sa.Column("revoke_time", UtcTimestamp),
    sa.Index("api_keys_by_id", "key_id", unique=True, info=index_options()),
    info=table_options(interleave_in="tenants"),
)

# What a repeated create is answered with.
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("method", Text(64), primary_key=True),
    sa.Column("request_id", Text(64), primary_key=True),
    sa.Column("digest", Bytes, nullable=False),
    sa.Column("name", Text(256), nullable=False),
    sa.Column("create_time", UtcTimestamp, nullable=False),
    info=table_options(interleave_in="tenants", expire=("create_time", 1)),
)

calls = sa.Table(
    "calls",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("call_id", Text(40), primary_key=True),
    sa.Column("provider", sa.BigInteger, nullable=False),
    sa.Column("provider_account", Text(128), nullable=False),
    sa.Column("provider_call_id", Text(256), nullable=False),
    sa.Column("facts", Bytes, nullable=False),
    # {field: [event time in microseconds, rank, event id]} of the event whose value stands.
    sa.Column("field_times", Json, nullable=False),
    sa.Column("first_event_time", UtcTimestamp, nullable=False),
    sa.Column("last_event_time", UtcTimestamp, nullable=False),
    # When the call began; while nobody said so, the time of its first event.
    sa.Column("start_time", UtcTimestamp, nullable=False),
    sa.Column("kind", sa.BigInteger, nullable=False),
    sa.Column("source_id", Text(40), nullable=False),
    sa.Column("caller_number", Text(256), nullable=False),
    sa.Column("caller_name", Text(1024), nullable=False),
    sa.Column("spam", Bool, nullable=False),
    sa.Column("sentiment", sa.BigInteger, nullable=False),
    sa.Column("intent", sa.BigInteger, nullable=False),
    sa.Column("lead_level", sa.BigInteger, nullable=False),
    sa.Column("lead_score", sa.BigInteger, nullable=False),
    # The lead it counts for; NULL when the number is not known or it is spam.
    sa.Column("lead_id", Text(40)),
    sa.Column("etag", Text(40), nullable=False),
    sa.Column("create_time", UtcTimestamp, nullable=False),
    sa.Column("update_time", UtcTimestamp, nullable=False),
    # The sum of its events' digests, the same in any order; NULL in rows of before, until their next event.
    sa.Column("events_sum", sa.BigInteger),
    # CallState; 0 of calls that an earlier release recorded.
    sa.Column("state", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    # CallOutcome; 0 of calls whose analysis does not tell it.
    sa.Column("outcome", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Index("calls_by_outcome", "tenant_id", "outcome", "start_time", "call_id", info=index_options()),
    sa.Index("calls_by_update", "tenant_id", "update_time", "call_id", info=index_options()),
    sa.Index("calls_by_state", "tenant_id", "state", "start_time", "call_id", info=index_options()),
    sa.Index(
        "calls_by_start", "tenant_id", "start_time", "call_id", info=index_options(storing=_LISTED_CALL)
    ),
    sa.Index("calls_by_caller", "tenant_id", "caller_number", "start_time", "call_id"),
    sa.Index("calls_by_source", "tenant_id", "source_id", "start_time", "call_id"),
    sa.Index("calls_by_spam", "tenant_id", "spam", "start_time", "call_id"),
    sa.Index("calls_by_sentiment", "tenant_id", "sentiment", "start_time", "call_id"),
    sa.Index("calls_by_intent", "tenant_id", "intent", "start_time", "call_id"),
    sa.Index("calls_by_lead_level", "tenant_id", "lead_level", "start_time", "call_id"),
    sa.Index(
        "calls_by_lead",
        "tenant_id",
        "lead_id",
        "start_time",
        "call_id",
        *_LEAD_FACTS,
        info=index_options(storing=_LEAD_FACTS, null_filtered=True),
    ),
    info=table_options(interleave_in="tenants"),
)

# Every id the provider has for a call; keyed by the call id that the alias alone would give, so that a name
# which a call had before it was merged still finds it.
call_aliases = sa.Table(
    "call_aliases",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("alias_id", Text(40), primary_key=True),
    sa.Column("call_id", Text(40), nullable=False),
    sa.Column("alias", Text(256), nullable=False),
    # The place it was named at, 0 the most lasting; of several, the last. The smallest names the call.
    sa.Column("place", sa.BigInteger, nullable=False),
    sa.Index("call_aliases_by_call", "tenant_id", "call_id", info=index_options(storing=("alias", "place"))),
    info=table_options(interleave_in="tenants"),
)

call_events = sa.Table(
    "call_events",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("call_id", Text(40), primary_key=True),
    sa.Column("event_id", Text(64), primary_key=True),
    sa.Column("event_time", UtcTimestamp, nullable=False),
    sa.Column("rank", sa.BigInteger, nullable=False),
    info=table_options(interleave_in="calls"),
)

leads = sa.Table(
    "leads",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("lead_id", Text(40), primary_key=True),
    sa.Column("phone_number", Text(256), nullable=False),
    sa.Column("display_name", Text(1024), nullable=False),
    sa.Column("call_count", sa.BigInteger, nullable=False),
    sa.Column("lead_level", sa.BigInteger, nullable=False),
    sa.Column("lead_score", sa.BigInteger, nullable=False),
    sa.Column("first_call_time", UtcTimestamp, nullable=False),
    sa.Column("last_call_time", UtcTimestamp, nullable=False),
    sa.Column("last_call_id", Text(40), nullable=False),
    sa.Column("create_time", UtcTimestamp, nullable=False),
    # How often its calls have each level and score, and which call named it (leads/rows.py); NULL in rows of before,
    # until their next call.
    sa.Column("tally", Json),
    sa.Index(
        "leads_by_last_call",
        "tenant_id",
        "last_call_time",
        "lead_id",
        info=index_options(storing=_lead_columns_beside("last_call_time")),
    ),
    sa.Index(
        "leads_by_level",
        "tenant_id",
        "lead_level",
        "last_call_time",
        "lead_id",
        info=index_options(storing=_lead_columns_beside("lead_level", "last_call_time")),
    ),
    sa.Index(
        "leads_by_number",
        "tenant_id",
        "phone_number",
        info=index_options(storing=_lead_columns_beside("phone_number")),
    ),
    info=table_options(interleave_in="tenants"),
)

# Which charges are counted already. A charge is told again within minutes, or after its service was down.
charges = sa.Table(
    "charges",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("charge_id", Text(64), primary_key=True),
    sa.Column("expire_at", UtcTimestamp, nullable=False),
    sa.Index("charges_by_expiry", "tenant_id", "expire_at", info=index_options()),
    info=table_options(expire=("expire_at", 0)),
)

# What is counted of charges, by engine and day, and by month.
_COUNTED = ("answers", "unpriced", "input_tokens", "output_tokens", "audio_us", "cost_micros")


def _counted_columns() -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTED]


day_costs = sa.Table(
    "day_costs",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("day", Text(10), primary_key=True),  # UTC, such as 2026-11-30
    sa.Column("service", Text(40), primary_key=True),
    sa.Column("engine", Text(64), primary_key=True),
    *_counted_columns(),
)

month_costs = sa.Table(
    "month_costs",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("month", Text(7), primary_key=True),  # UTC, such as 2026-11
    *_counted_columns(),
    # What operators list: all tenants of a month.
    sa.Index("month_costs_by_month", "month", "tenant_id", info=index_options(storing=_COUNTED)),
)
