"""Tenants, sources with their secrets, API keys, calls and leads."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from trunkline_store.declare import commit_time_column, index_options, table_options
from trunkline_store.types import Bool, Bytes, Json, Text, UtcTimestamp

revision = "0001"
down_revision = None

LISTED_CALL = (
    "provider", "provider_account", "provider_call_id", "facts", "last_event_time", "kind", "source_id",
    "caller_number", "spam", "sentiment", "intent", "lead_level", "lead_score", "lead_id", "etag",
    "create_time", "update_time",
)  # fmt: skip
LEAD_FACTS = ("lead_level", "lead_score", "intent", "caller_name")
LISTED_LEAD = (
    "phone_number", "display_name", "call_count", "lead_level", "lead_score", "first_call_time",
    "last_call_time", "last_call_id", "create_time",
)  # fmt: skip


def _stored_with(*key: str) -> dict[str, Any]:
    return index_options(storing=[name for name in LISTED_LEAD if name not in key])


def upgrade() -> None:
    """Create the tables and their indexes."""
    op.create_table(
        "tenants",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("display_name", Text(120), nullable=False),
        sa.Column("state", sa.BigInteger, nullable=False),
        sa.Column("retention", Bytes, nullable=False),
        sa.Column("delete_time", UtcTimestamp),
        sa.Column("purge_time", UtcTimestamp),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcTimestamp, nullable=False),
        sa.Column("update_time", UtcTimestamp, nullable=False),
    )
    op.create_table(
        "sources",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("source_id", Text(40), primary_key=True),
        sa.Column("provider", sa.BigInteger, nullable=False),
        sa.Column("state", sa.BigInteger, nullable=False),
        sa.Column("options", Bytes, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcTimestamp, nullable=False),
        sa.Column("update_time", UtcTimestamp, nullable=False),
        info=table_options(interleave_in="tenants"),
    )
    op.create_index("sources_by_id", "sources", ["source_id"], unique=True, info=index_options())
    op.create_table(
        "source_secrets",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("source_id", Text(40), primary_key=True),
        sa.Column("secret_id", Text(40), primary_key=True),
        sa.Column("purpose", Text(16), nullable=False),
        sa.Column("sealed", Bytes, nullable=False),
        sa.Column("key_print", Text(16), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("expire_time", UtcTimestamp),
        info=table_options(interleave_in="sources", expire=("expire_time", 1)),
    )
    op.create_table(
        "source_changes",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("source_id", Text(40), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("deleted", Bool, nullable=False),
        commit_time_column("change_time"),
    )
    op.create_index(
        "source_changes_by_revision", "source_changes", ["revision"], info=index_options(storing=["deleted"])
    )
    op.create_table(
        "source_revision",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("forgotten", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("key_id", Text(40), primary_key=True),
        sa.Column("display_name", Text(120), nullable=False),
        sa.Column("role", sa.BigInteger, nullable=False),
        sa.Column("secret_hash", Bytes, nullable=False),
        sa.Column("expire_time", UtcTimestamp),
        sa.Column("create_time", UtcTimestamp, nullable=False),
        info=table_options(interleave_in="tenants"),
    )
    op.create_index("api_keys_by_id", "api_keys", ["key_id"], unique=True, info=index_options())
    op.create_table(
        "requests",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("method", Text(64), primary_key=True),
        sa.Column("request_id", Text(64), primary_key=True),
        sa.Column("digest", Bytes, nullable=False),
        sa.Column("name", Text(256), nullable=False),
        sa.Column("create_time", UtcTimestamp, nullable=False),
        info=table_options(interleave_in="tenants", expire=("create_time", 1)),
    )
    op.create_table(
        "calls",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("call_id", Text(40), primary_key=True),
        sa.Column("provider", sa.BigInteger, nullable=False),
        sa.Column("provider_account", Text(128), nullable=False),
        sa.Column("provider_call_id", Text(256), nullable=False),
        sa.Column("facts", Bytes, nullable=False),
        sa.Column("field_times", Json, nullable=False),
        sa.Column("first_event_time", UtcTimestamp, nullable=False),
        sa.Column("last_event_time", UtcTimestamp, nullable=False),
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
        sa.Column("lead_id", Text(40)),
        sa.Column("etag", Text(40), nullable=False),
        sa.Column("create_time", UtcTimestamp, nullable=False),
        sa.Column("update_time", UtcTimestamp, nullable=False),
        info=table_options(interleave_in="tenants"),
    )
    op.create_index("calls_by_caller", "calls", ["tenant_id", "caller_number", "start_time", "call_id"])
    op.create_index("calls_by_intent", "calls", ["tenant_id", "intent", "start_time", "call_id"])
    op.create_index(
        "calls_by_lead",
        "calls",
        [
            "tenant_id",
            "lead_id",
            "start_time",
            "call_id",
            "lead_level",
            "lead_score",
            "intent",
            "caller_name",
        ],
        info=index_options(storing=LEAD_FACTS, null_filtered=True),
    )
    op.create_index("calls_by_lead_level", "calls", ["tenant_id", "lead_level", "start_time", "call_id"])
    op.create_index("calls_by_sentiment", "calls", ["tenant_id", "sentiment", "start_time", "call_id"])
    op.create_index("calls_by_source", "calls", ["tenant_id", "source_id", "start_time", "call_id"])
    op.create_index("calls_by_spam", "calls", ["tenant_id", "spam", "start_time", "call_id"])
    op.create_index(
        "calls_by_start",
        "calls",
        ["tenant_id", "start_time", "call_id"],
        info=index_options(storing=LISTED_CALL),
    )
    op.create_table(
        "call_aliases",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("alias_id", Text(40), primary_key=True),
        sa.Column("call_id", Text(40), nullable=False),
        sa.Column("alias", Text(256), nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        info=table_options(interleave_in="tenants"),
    )
    op.create_index(
        "call_aliases_by_call",
        "call_aliases",
        ["tenant_id", "call_id"],
        info=index_options(storing=["alias", "place"]),
    )
    op.create_table(
        "call_events",
        sa.Column("tenant_id", Text(40), primary_key=True),
        sa.Column("call_id", Text(40), primary_key=True),
        sa.Column("event_id", Text(64), primary_key=True),
        sa.Column("event_time", UtcTimestamp, nullable=False),
        sa.Column("rank", sa.BigInteger, nullable=False),
        info=table_options(interleave_in="calls"),
    )
    op.create_table(
        "leads",
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
        info=table_options(interleave_in="tenants"),
    )
    op.create_index(
        "leads_by_last_call",
        "leads",
        ["tenant_id", "last_call_time", "lead_id"],
        info=_stored_with("last_call_time"),
    )
    op.create_index(
        "leads_by_level",
        "leads",
        ["tenant_id", "lead_level", "last_call_time", "lead_id"],
        info=_stored_with("lead_level", "last_call_time"),
    )
    op.create_index(
        "leads_by_number",
        "leads",
        ["tenant_id", "phone_number"],
        info=_stored_with("phone_number"),
    )
