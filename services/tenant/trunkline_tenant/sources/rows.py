"""Sources between rows and messages: shown to people without their secrets, to the gateway with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.engine import Connection
from trunkline.common.v1 import analysis_settings_pb2, speech_pb2
from trunkline.tenant.v1 import source_pb2, tenant_pb2
from trunkline_runtime.api.times import timestamp
from trunkline_runtime.errors import NotFound

from trunkline_tenant import ids
from trunkline_tenant.crypto import SecretBox
from trunkline_tenant.schema import source_changes, source_secrets, sources, tenants
from trunkline_tenant.sources import secret_rows
from trunkline_tenant.tenants.plans import quotas_of

_COLUMNS_AND_DERIVED = {
    "name",
    "provider",
    "state",
    "secret",
    "fetch_credential",
    "hook_path",
    "create_time",
    "update_time",
    "etag",
}


def options_of(source: source_pb2.Source) -> bytes:
    """Return what is stored of a source beside its columns."""
    options = source_pb2.Source()
    options.CopyFrom(source)
    cleared: Message = options
    for name in _COLUMNS_AND_DERIVED:
        cleared.ClearField(name)
    for named in options.named_secrets:
        named.ClearField("value")
    return options.SerializeToString(deterministic=True)


def load(conn: Connection, tenant: str, source: str) -> Mapping[Any, Any]:
    """Return a source's row. Raises NotFound."""
    row = (
        conn.execute(sa.select(sources).where(sources.c.tenant_id == tenant, sources.c.source_id == source))
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"tenants/{tenant}/sources/{source}")
    return row


def shown(row: Mapping[Any, Any]) -> source_pb2.Source:
    """Return a source as its readers see it, without its secrets."""
    source = source_pb2.Source.FromString(row["options"])
    source.name = f"tenants/{row['tenant_id']}/sources/{row['source_id']}"
    source.provider = row["provider"]
    source.state = row["state"]
    source.hook_path = f"/hooks/{row['source_id']}"
    source.create_time.CopyFrom(timestamp(row["create_time"]))
    source.update_time.CopyFrom(timestamp(row["update_time"]))
    source.etag = ids.etag("source", row["source_id"], str(row["version"]))
    return source


def resolve(
    conn: Connection, box: SecretBox, wanted: Collection[str], now: datetime
) -> dict[str, source_pb2.ResolvedSource]:
    """Return those of the sources that are there, by bare id, with their secrets in the clear.

    Of every tenant: for the gateway alone.
    """
    if not wanted:
        return {}
    found = (
        conn.execute(
            sa.select(
                sources,
                tenants.c.state.label("tenant_state"),
                tenants.c.retention.label("tenant_retention"),
                tenants.c.plan.label("tenant_plan"),
                tenants.c.speech_settings.label("tenant_speech_settings"),
                tenants.c.analysis_settings.label("tenant_analysis_settings"),
                source_changes.c.revision,
            )
            .join(tenants, tenants.c.tenant_id == sources.c.tenant_id)
            .join(
                source_changes,
                sa.and_(
                    source_changes.c.tenant_id == sources.c.tenant_id,
                    source_changes.c.source_id == sources.c.source_id,
                ),
            )
            .where(sources.c.source_id.in_(wanted))
        )
        .mappings()
        .all()
    )
    owners = {row["tenant_id"] for row in found}
    secrets = defaultdict(list)
    for secret in conn.execute(
        sa.select(source_secrets)
        .where(source_secrets.c.tenant_id.in_(owners), source_secrets.c.source_id.in_(wanted))
        .order_by(source_secrets.c.generation.desc())
    ).mappings():
        secrets[secret["source_id"]].append(secret)
    return {row["source_id"]: _resolved(box, row, secrets[row["source_id"]], now) for row in found}


def _resolved(
    box: SecretBox, row: Mapping[Any, Any], secrets: list[Any], now: datetime
) -> source_pb2.ResolvedSource:
    fetching = [secret for secret in secrets if secret["purpose"] == secret_rows.FETCHING]
    return source_pb2.ResolvedSource(
        source=shown(row),
        secrets=[secret_rows.message(box, secret) for secret in secret_rows.verifying(secrets, now)],
        fetch_credential=secret_rows.opened(box, fetching[0]) if fetching else "",
        accepting=row["state"] == source_pb2.SOURCE_STATE_ACTIVE
        and row["tenant_state"] == tenant_pb2.TENANT_STATE_ACTIVE,
        revision=row["revision"],
        retention=tenant_pb2.Retention.FromString(row["tenant_retention"]),
        quotas=quotas_of(row["tenant_plan"]),
        speech_settings=speech_pb2.SpeechSettings.FromString(row["tenant_speech_settings"] or b""),
        analysis_settings=analysis_settings_pb2.AnalysisSettings.FromString(
            row["tenant_analysis_settings"] or b""
        ),
    )
