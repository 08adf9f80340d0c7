"""Writing sources: each function is one transaction, with the change noted for the watchers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.tenant.v1 import source_pb2, source_service_pb2
from trunkline_runtime.api import resources
from trunkline_runtime.errors import InvalidArgument, ResourceExhausted

from trunkline_tenant import masks, requests, source_changes
from trunkline_tenant.crypto import SecretBox
from trunkline_tenant.schema import source_secrets, sources
from trunkline_tenant.sources import options as source_options
from trunkline_tenant.sources import rows as source_rows
from trunkline_tenant.sources import secret_rows, signing_secrets
from trunkline_tenant.sources.secret_rows import SourceSecrets
from trunkline_tenant.tenants import rows as tenant_rows
from trunkline_tenant.tenants.plans import quotas_of

_NAME = "tenants/{tenant}/sources/{source}"
_CREATE = "CreateSource"
_CHANGEABLE = {
    "display_name",
    "language",
    "provider_account",
    "state",
    "fetch_credential",
    "mapping",
    "hmac",
    "api_base_url",
    "region",
    "channel_roles",
    "headerless_format",
    "secret_form",
    "named_secrets",
}
_DEFAULT_OVERLAP = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class NewSource:
    """A checked source to create; `made` is the secret that the server made, empty when one was given."""

    source_id: str
    wanted: source_pb2.Source = field(repr=False)
    made: str = field(repr=False)


def _check_room(conn: Connection, tenant: str, most: int) -> None:
    """Raise ResourceExhausted when a tenant has as many sources as its plan allows."""
    mine = sa.select(sa.func.count()).select_from(sources).where(sources.c.tenant_id == tenant)
    if conn.execute(mine).scalar_one() >= most:
        raise ResourceExhausted(
            f"the plan allows {most} sources; delete one, or ask the operator for a larger plan",
            reason="SOURCES_QUOTA",
            subject=f"tenants/{tenant}",
        )


def create(
    conn: Connection,
    box: SecretBox,
    request: source_service_pb2.CreateSourceRequest,
    new: NewSource,
    now: datetime,
) -> source_pb2.Source:
    """Create a source, or show what the same request made. Raises NotFound when there is no such tenant."""
    tenant = resources.tenant_of(request.parent, field="parent")
    plan = tenant_rows.load(conn, tenant)["plan"]
    content = requests.content(_without_secrets(request))
    asked = requests.Creation(tenant, _CREATE, request.request_id, content)
    before = requests.earlier(conn, asked, now)
    if before is not None:
        return _created_before(conn, box, before, show_secret=bool(new.made))
    _check_room(conn, tenant, quotas_of(plan).sources)
    row = {
        "tenant_id": tenant,
        "source_id": new.source_id,
        "provider": new.wanted.provider,
        "state": new.wanted.state,
        "options": source_rows.options_of(new.wanted),
        "version": 1,
        "create_time": now,
        "update_time": now,
    }
    conn.execute(sa.insert(sources).values(**row))
    secrets = SourceSecrets(conn, box, tenant, new.source_id)
    secrets.put(secret_rows.SIGNING, new.wanted.secret or new.made, 1)
    secrets.set_fetching(new.wanted.fetch_credential)
    secrets.set_named(_values(new.wanted))
    source_changes.changed(conn, tenant, new.source_id, now)
    shown = source_rows.shown(row)
    requests.remember(conn, asked, shown.name, now)
    shown.secret = new.made
    return shown


def changed_fields(request: source_service_pb2.UpdateSourceRequest) -> Sequence[str]:
    """Return what an update changes. Raises InvalidArgument for what it cannot change."""
    if request.source.secret or "secret" in request.update_mask.paths:
        raise InvalidArgument("source.secret", "is changed by RotateSourceSecret")
    return masks.fields_to_change(request.source, request.update_mask, _CHANGEABLE)


def update(
    conn: Connection, box: SecretBox, wanted: source_pb2.Source, fields: Sequence[str], now: datetime
) -> source_pb2.Source:
    """Change a source's fields; nothing is written when nothing changes. Raises NotFound, Aborted."""
    ids = resources.parse(_NAME, wanted.name, field="source.name")
    tenant, source_id = ids["tenant"], ids["source"]
    row = source_rows.load(conn, tenant, source_id)
    source = source_rows.shown(row)
    masks.check_etag(wanted.etag, source.etag, wanted.name)
    if wanted.provider not in (0, source.provider):
        raise InvalidArgument("source.provider", "cannot be changed; create another source")
    secrets = SourceSecrets(conn, box, tenant, source_id)
    old = [secret_rows.opened(box, s) for s in secrets.rows() if s["purpose"] == secret_rows.FETCHING]
    new = [wanted.fetch_credential.strip()] if wanted.fetch_credential.strip() else []
    fetching = new if "fetch_credential" in fields else old
    masks.take([name for name in fields if name != "fetch_credential"], wanted, source)
    source_options.complete(source)
    source_options.check(source, needs_account=bool(fetching) or "provider_account" in fields)
    if "region" in fields:
        source_options.check_region(source)
    named_changed = False
    if "named_secrets" in fields:
        clean_named(source, secrets.named())
        named_changed = secrets.set_named(_values(source))
    if "secret_form" in fields:
        _check_form(box, source, secrets)
    values = {"state": source.state, "options": source_rows.options_of(source)}
    if fetching == old and not named_changed and all(row[name] == value for name, value in values.items()):
        return source_rows.shown(row)
    if fetching != old:
        secrets.set_fetching("".join(fetching))
    values |= {"version": row["version"] + 1, "update_time": now}
    conn.execute(
        sa.update(sources)
        .where(sources.c.tenant_id == tenant, sources.c.source_id == source_id)
        .values(**values)
    )
    source_changes.changed(conn, tenant, source_id, now)
    return source_rows.shown({**row, **values})


def delete(conn: Connection, tenant: str, source_id: str, etag: str, now: datetime) -> None:
    """Delete a source and its secrets. Raises NotFound, Aborted."""
    source = source_rows.shown(source_rows.load(conn, tenant, source_id))
    masks.check_etag(etag, source.etag, source.name)
    for table in (source_secrets, sources):
        conn.execute(sa.delete(table).where(table.c.tenant_id == tenant, table.c.source_id == source_id))
    source_changes.changed(conn, tenant, source_id, now, deleted=True)


def rotate(
    conn: Connection, box: SecretBox, request: source_service_pb2.RotateSourceSecretRequest, now: datetime
) -> source_service_pb2.RotateSourceSecretResponse:
    """Put a new secret first. Giving the one that is first already changes nothing. Raises NotFound."""
    ids = resources.parse(_NAME, request.name)
    tenant, source_id = ids["tenant"], ids["source"]
    row = source_rows.load(conn, tenant, source_id)
    form = source_rows.shown(row).secret_form
    made = "" if request.secret.strip() else signing_secrets.made(row["provider"], form, "secret")
    secret = signing_secrets.cleaned(row["provider"], form, request.secret.strip() or made, "secret")
    overlap = request.overlap.ToTimedelta() if request.HasField("overlap") else _DEFAULT_OVERLAP
    if SourceSecrets(conn, box, tenant, source_id).rotate(secret, now, now + overlap):
        values = {"version": row["version"] + 1, "update_time": now}
        conn.execute(
            sa.update(sources)
            .where(sources.c.tenant_id == tenant, sources.c.source_id == source_id)
            .values(**values)
        )
        source_changes.changed(conn, tenant, source_id, now)
        row = {**row, **values}
    return source_service_pb2.RotateSourceSecretResponse(source=source_rows.shown(row), secret=made)


def clean_named(source: source_pb2.Source, known: Collection[str] = ()) -> None:
    """Clean the values of the secrets that have names; only one that is `known` may be without.

    Raises InvalidArgument.
    """
    for place, named in enumerate(source.named_secrets):
        if named.value.strip() or named.name not in known:
            field = f"source.named_secrets[{place}].value"
            named.value = signing_secrets.cleaned(source.provider, source.secret_form, named.value, field)


def _values(source: source_pb2.Source) -> dict[str, str]:
    return {named.name: named.value for named in source.named_secrets}


def _check_form(box: SecretBox, source: source_pb2.Source, secrets: SourceSecrets) -> None:
    """Raise InvalidArgument unless the source's secret can be read in the form that it is to have."""
    own = next((row for row in secrets.rows() if row["purpose"] == secret_rows.SIGNING), None)
    if own is not None:
        secret = secret_rows.opened(box, own)
        signing_secrets.cleaned(source.provider, source.secret_form, secret, "source.secret_form")


def _created_before(conn: Connection, box: SecretBox, name: str, *, show_secret: bool) -> source_pb2.Source:
    """Return what a request made; with its secret, which a lost answer would have lost with it."""
    ids = resources.parse(_NAME, name)
    source = source_rows.shown(source_rows.load(conn, ids["tenant"], ids["source"]))
    if show_secret:
        rows = SourceSecrets(conn, box, ids["tenant"], ids["source"]).rows()
        first = [r for r in rows if r["purpose"] == secret_rows.SIGNING and r["generation"] == 1]
        source.secret = secret_rows.opened(box, first[0]) if first else ""
    return source


def _without_secrets(
    request: source_service_pb2.CreateSourceRequest,
) -> source_service_pb2.CreateSourceRequest:
    copy = source_service_pb2.CreateSourceRequest()
    copy.CopyFrom(request)
    copy.source.ClearField("secret")
    copy.source.ClearField("fetch_credential")
    for named in copy.source.named_secrets:
        named.ClearField("value")
    return copy
