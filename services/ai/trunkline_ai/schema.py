"""The service's tables; the tenant leads every key, so that no query of a tenant can lack it."""

from __future__ import annotations

import sqlalchemy as sa
from trunkline_store.declare import index_options, table_options
from trunkline_store.records.outbox import outbox_table
from trunkline_store.records.tombstones import tombstones_table
from trunkline_store.types import Json, Text, UtcTimestamp

metadata = sa.MetaData()

deleted_tenants = tombstones_table(metadata)
# What engines' answers cost, until the tenant service is told.
charges = outbox_table(metadata, "charges")

analyses = sa.Table(
    "analyses",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("analysis_id", Text(40), primary_key=True),
    sa.Column("call_id", Text(40), nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("engine", Text(64), nullable=False),
    # The Analysis message as JSON, without its name, call, engine and time: the columns hold those.
    sa.Column("result", Json, nullable=False),
    sa.Column("created_at", UtcTimestamp, nullable=False),
    sa.Column("expire_at", UtcTimestamp, nullable=True),  # from when it is gone; never when NULL
    sa.Index("analyses_by_expiry", "tenant_id", "expire_at", info=index_options(null_filtered=True)),
    # What a list shows, so that a page is read from one place on Spanner.
    sa.Index(
        "analyses_by_time",
        "tenant_id",
        "created_at",
        "analysis_id",
        info=index_options(storing=("call_id", "generation", "engine", "result", "expire_at")),
    ),
    sa.Index("analyses_by_call", "tenant_id", "call_id", "created_at", "analysis_id", info=index_options()),
    info=table_options(expire=("expire_at", 0)),
)

# What lists find analyses by: the tenant's labels that apply and its keywords that were said.
analysis_marks = sa.Table(
    "analysis_marks",
    metadata,
    sa.Column("tenant_id", Text(40), primary_key=True),
    # `label:` or `keyword:` and the name.
    sa.Column("mark", Text(80), primary_key=True),
    sa.Column("analysis_id", Text(40), primary_key=True),
    sa.Column("expire_at", UtcTimestamp, nullable=True),  # the analysis's
    sa.Index("analysis_marks_by_analysis", "tenant_id", "analysis_id", info=index_options()),
    sa.Index("analysis_marks_by_expiry", "tenant_id", "expire_at", info=index_options(null_filtered=True)),
    info=table_options(expire=("expire_at", 0)),
)
