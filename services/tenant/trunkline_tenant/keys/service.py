"""API keys: made, listed, revoked, and told apart from guesses."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from google.protobuf import empty_pb2
from sqlalchemy.engine import Connection
from trunkline.tenant.v1 import api_key_pb2, api_key_service_pb2, api_key_service_pb2_grpc, tenant_pb2
from trunkline_runtime.api import paging, resources
from trunkline_runtime.api.times import timestamp, utc
from trunkline_runtime.errors import InvalidArgument, NotFound, ResourceExhausted, Unauthenticated
from trunkline_runtime.identity.callers import EDGE_CALLER, OPERATOR, Caller, CallerKind, Role
from trunkline_store import Database
from trunkline_store.records.expiry import is_over
from trunkline_store.records.keyset import Page

from trunkline_tenant.schema import api_keys, tenants
from trunkline_tenant.tenants import rows as tenant_rows
from trunkline_tenant.tenants.plans import quotas_of

PREFIX = "tl_"
OPERATOR_PREFIX = "tl_op_"
EDGE_PREFIX = "tl_edge_"
_SECRET_BYTES = 32
# For so long the holder of a revoked key is told that it was revoked; after that, nobody holds it.
_REVOKED_KEPT = timedelta(days=30)


class LocalAuthenticator:
    """Tells who holds a key, an operator token, or the token of the edge, from the service's own store."""

    def __init__(self, db: Database, operator_token: str | None, edge_token: str | None = None) -> None:
        self._db = db
        self._operator = _hash(operator_token) if operator_token else None
        self._edge = _hash(edge_token) if edge_token else None

    async def authenticate(self, token: str) -> Caller:
        """Return the caller. Raises Unauthenticated when nobody holds the token, or nobody any more."""
        if token.startswith(OPERATOR_PREFIX):
            if self._operator is not None and hmac.compare_digest(_hash(token), self._operator):
                return OPERATOR
            raise _nobody()
        if token.startswith(EDGE_PREFIX):
            if self._edge is not None and hmac.compare_digest(_hash(token), self._edge):
                return EDGE_CALLER
            raise _nobody()
        key_id, _, secret = token.removeprefix(PREFIX).partition("_")
        if not token.startswith(PREFIX) or not resources.is_id(key_id) or not secret:
            raise _nobody()
        row = await self._db.read(lambda conn: _find(conn, key_id))
        # Compared also when there is no such key, so that both take as long.
        known = bytes(row["secret_hash"]) if row is not None else bytes(hashlib.sha256().digest_size)
        if not hmac.compare_digest(_hash(secret), known) or row is None:
            raise _nobody()
        # Whoever gets here has proved to hold the key, and is told what became of it.
        if row["revoke_time"] is not None:
            raise Unauthenticated("the API key was revoked; use another key", reason="KEY_REVOKED")
        if is_over(row["expire_time"], self._db.clock.now()):
            when = row["expire_time"].isoformat(timespec="seconds").replace("+00:00", "Z")
            raise Unauthenticated(f"the API key expired at {when}; use another key", reason="KEY_EXPIRED")
        if row["tenant_state"] != tenant_pb2.TENANT_STATE_ACTIVE:
            raise Unauthenticated("the tenant is suspended", reason="TENANT_SUSPENDED")
        return Caller(CallerKind.API_KEY, tenant=row["tenant_id"], role=Role(row["role"]), subject=key_id)


class ApiKeyService(api_key_service_pb2_grpc.ApiKeyServiceServicer):
    """trunkline.tenant.v1.ApiKeyService."""

    def __init__(self, db: Database, authenticator: LocalAuthenticator) -> None:
        self._db = db
        self._authenticator = authenticator

    async def CreateApiKey(
        self, request: api_key_service_pb2.CreateApiKeyRequest, context: object
    ) -> api_key_pb2.ApiKey:
        """Create a key and show it this once."""
        tenant = resources.tenant_of(request.parent, field="parent")
        wanted = request.api_key
        now = self._db.clock.now()
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        row = {
            "tenant_id": tenant,
            "key_id": resources.new_id(),
            "display_name": wanted.display_name,
            "role": wanted.role,
            "secret_hash": _hash(secret),
            "expire_time": _expiry(wanted, now),
            "create_time": now,
        }
        await self._db.write(lambda conn: _insert(conn, row))
        key = shown(row)
        key.key = f"{key.prefix}_{secret}"
        return key

    async def GetApiKey(
        self, request: api_key_service_pb2.GetApiKeyRequest, context: object
    ) -> api_key_pb2.ApiKey:
        """Show a key's facts, without the key itself."""
        ids = resources.parse("tenants/{tenant}/apiKeys/{api_key}", request.name)
        return shown(await self._db.read(lambda conn: _load(conn, ids["tenant"], ids["api_key"])))

    async def ListApiKeys(
        self, request: api_key_service_pb2.ListApiKeysRequest, context: object
    ) -> api_key_service_pb2.ListApiKeysResponse:
        """List a tenant's keys by id, without the keys themselves."""
        tenant = resources.tenant_of(request.parent, field="parent")
        select = sa.select(api_keys).where(api_keys.c.tenant_id == tenant, api_keys.c.revoke_time.is_(None))
        page = Page(select, [api_keys.c.key_id], paging.place_of(request, "ListApiKeys", tenant))
        rows, token = await self._db.scan(page.fetch)
        return api_key_service_pb2.ListApiKeysResponse(
            api_keys=[shown(row._mapping) for row in rows], next_page_token=token
        )

    async def DeleteApiKey(
        self, request: api_key_service_pb2.DeleteApiKeyRequest, context: object
    ) -> empty_pb2.Empty:
        """Revoke a key."""
        ids = resources.parse("tenants/{tenant}/apiKeys/{api_key}", request.name)
        now = self._db.clock.now()
        await self._db.write(lambda conn: _revoke(conn, ids["tenant"], ids["api_key"], now))
        return empty_pb2.Empty()

    async def Authenticate(
        self, request: api_key_service_pb2.AuthenticateRequest, context: object
    ) -> api_key_service_pb2.AuthenticateResponse:
        """Tell who holds a key or an operator token."""
        caller = await self._authenticator.authenticate(request.token)
        if caller.kind is CallerKind.OPERATOR:
            return api_key_service_pb2.AuthenticateResponse(operator=True)
        if not caller.is_of_tenant:
            raise _nobody()  # the edge calls this service alone
        assert caller.tenant is not None
        assert caller.role is not None
        return api_key_service_pb2.AuthenticateResponse(
            tenant=f"tenants/{caller.tenant}",
            role=api_key_pb2.Role.ValueType(caller.role),
            api_key=f"tenants/{caller.tenant}/apiKeys/{caller.subject}",
        )


def shown(row: Mapping[Any, Any]) -> api_key_pb2.ApiKey:
    """Return a key as its readers see it, without the key itself."""
    key = api_key_pb2.ApiKey(
        name=f"tenants/{row['tenant_id']}/apiKeys/{row['key_id']}",
        display_name=row["display_name"],
        role=row["role"],
        prefix=f"{PREFIX}{row['key_id']}",
        create_time=timestamp(row["create_time"]),
    )
    if row["expire_time"] is not None:
        key.expire_time.CopyFrom(timestamp(row["expire_time"]))
    return key


def _expiry(wanted: api_key_pb2.ApiKey, now: datetime) -> datetime | None:
    if not wanted.HasField("expire_time"):
        return None
    expires = utc(wanted.expire_time)
    if expires <= now:
        raise InvalidArgument("api_key.expire_time", "must be in the future")
    return expires


def _insert(conn: Connection, row: Mapping[Any, Any]) -> None:
    tenant = row["tenant_id"]
    most = quotas_of(tenant_rows.load(conn, tenant)["plan"]).api_keys
    mine = sa.select(sa.func.count()).select_from(api_keys)
    mine = mine.where(api_keys.c.tenant_id == tenant, api_keys.c.revoke_time.is_(None))
    if conn.execute(mine).scalar_one() >= most:
        raise ResourceExhausted(
            f"the plan allows {most} API keys; delete one, or ask the operator for a larger plan",
            reason="API_KEYS_QUOTA",
            subject=f"tenants/{tenant}",
        )
    conn.execute(sa.insert(api_keys).values(**row))


def _load(conn: Connection, tenant: str, key_id: str) -> Mapping[Any, Any]:
    row = conn.execute(sa.select(api_keys).where(*_works(tenant, key_id))).mappings().first()
    if row is None:
        raise NotFound(f"tenants/{tenant}/apiKeys/{key_id}")
    return row


def _revoke(conn: Connection, tenant: str, key_id: str, now: datetime) -> None:
    gone = conn.execute(sa.update(api_keys).where(*_works(tenant, key_id)).values(revoke_time=now))
    if gone.rowcount == 0:
        raise NotFound(f"tenants/{tenant}/apiKeys/{key_id}")
    old = now - _REVOKED_KEPT
    conn.execute(sa.delete(api_keys).where(api_keys.c.tenant_id == tenant, api_keys.c.revoke_time < old))


def _works(tenant: str, key_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    key = api_keys.c
    return key.tenant_id == tenant, key.key_id == key_id, key.revoke_time.is_(None)


def _find(conn: Connection, key_id: str) -> Mapping[Any, Any] | None:
    """Return a key by its id alone: who it belongs to is the question here."""
    return (
        conn.execute(
            sa.select(api_keys, tenants.c.state.label("tenant_state"))
            .join(tenants, tenants.c.tenant_id == api_keys.c.tenant_id)
            .where(api_keys.c.key_id == key_id)
        )
        .mappings()
        .first()
    )


def _hash(secret: str) -> bytes:
    # A random secret of 32 bytes needs no slow hash: nobody can try them all.
    return hashlib.sha256(secret.encode()).digest()


def _nobody() -> Unauthenticated:
    return Unauthenticated("the API key is not valid", reason="API_KEY_INVALID")
