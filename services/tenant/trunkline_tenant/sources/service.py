"""SourceService: the calls of it, each a validation and one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator

import sqlalchemy as sa
from google.protobuf import empty_pb2
from trunkline.tenant.v1 import source_pb2, source_service_pb2, source_service_pb2_grpc
from trunkline_runtime.api import paging, resources
from trunkline_runtime.errors import NotFound
from trunkline_store import Database
from trunkline_store.records.keyset import Page

from trunkline_tenant.crypto import SecretBox
from trunkline_tenant.schema import sources
from trunkline_tenant.sources import options as source_options
from trunkline_tenant.sources import rows as source_rows
from trunkline_tenant.sources import signing_secrets
from trunkline_tenant.sources import writes as source_writes
from trunkline_tenant.sources.watch import Bell, SourceWatch

_NAME = "tenants/{tenant}/sources/{source}"


class SourceService(source_service_pb2_grpc.SourceServiceServicer):
    """trunkline.tenant.v1.SourceService."""

    def __init__(self, db: Database, box: SecretBox, bell: Bell, watch: SourceWatch) -> None:
        self._db = db
        self._box = box
        self._bell = bell
        self._watch = watch

    async def CreateSource(
        self, request: source_service_pb2.CreateSourceRequest, context: object
    ) -> source_pb2.Source:
        """Create a source; a secret that the server made is shown in this answer only."""
        wanted = source_pb2.Source()
        wanted.CopyFrom(request.source)
        source_options.complete(wanted)
        source_options.check(wanted, needs_account=True)
        source_options.check_region(wanted)
        made = ""
        if not wanted.secret.strip():
            made = signing_secrets.made(wanted.provider, wanted.secret_form, "source.secret")
        wanted.secret = signing_secrets.cleaned(
            wanted.provider, wanted.secret_form, wanted.secret.strip() or made, "source.secret"
        )
        wanted.fetch_credential = wanted.fetch_credential.strip()
        source_writes.clean_named(wanted)
        new = source_writes.NewSource(resources.new_id(), wanted, made)
        created = await self._db.write(
            lambda conn: source_writes.create(conn, self._box, request, new, self._db.clock.now())
        )
        self._bell.ring()
        return created

    async def GetSource(
        self, request: source_service_pb2.GetSourceRequest, context: object
    ) -> source_pb2.Source:
        """Show a source without its secrets."""
        ids = resources.parse(_NAME, request.name)
        row = await self._db.read(lambda conn: source_rows.load(conn, ids["tenant"], ids["source"]))
        return source_rows.shown(row)

    async def ListSources(
        self, request: source_service_pb2.ListSourcesRequest, context: object
    ) -> source_service_pb2.ListSourcesResponse:
        """List a tenant's sources by id, or with `tenants/-` everybody's by tenant and id."""
        tenant = resources.tenant_of(request.parent, field="parent")
        select = sa.select(sources)
        key = [sources.c.tenant_id, sources.c.source_id]
        if tenant != resources.WILDCARD:
            select, key = select.where(sources.c.tenant_id == tenant), [sources.c.source_id]
        page = Page(select, key, paging.place_of(request, "ListSources", tenant))
        rows, token = await self._db.scan(page.fetch)
        return source_service_pb2.ListSourcesResponse(
            sources=[source_rows.shown(row._mapping) for row in rows], next_page_token=token
        )

    async def UpdateSource(
        self, request: source_service_pb2.UpdateSourceRequest, context: object
    ) -> source_pb2.Source:
        """Change the fields of the update mask."""
        fields = source_writes.changed_fields(request)
        changed = await self._db.write(
            lambda conn: source_writes.update(conn, self._box, request.source, fields, self._db.clock.now())
        )
        self._bell.ring()
        return changed

    async def DeleteSource(
        self, request: source_service_pb2.DeleteSourceRequest, context: object
    ) -> empty_pb2.Empty:
        """Delete a source and its secrets."""
        ids = resources.parse(_NAME, request.name)
        await self._db.write(
            lambda conn: source_writes.delete(
                conn, ids["tenant"], ids["source"], request.etag, self._db.clock.now()
            )
        )
        self._bell.ring()
        return empty_pb2.Empty()

    async def RotateSourceSecret(
        self, request: source_service_pb2.RotateSourceSecretRequest, context: object
    ) -> source_service_pb2.RotateSourceSecretResponse:
        """Put a new secret first; the others verify until the overlap has passed."""
        answer = await self._db.write(
            lambda conn: source_writes.rotate(conn, self._box, request, self._db.clock.now())
        )
        self._bell.ring()
        return answer

    async def ResolveSource(
        self, request: source_service_pb2.ResolveSourceRequest, context: object
    ) -> source_pb2.ResolvedSource:
        """Give one source with its secrets, to the gateway."""
        wanted = request.source_id
        found = await self._db.read(
            lambda conn: source_rows.resolve(conn, self._box, [wanted], self._db.clock.now())
        )
        if wanted not in found:
            raise NotFound(f"sources/{wanted}", reason="SOURCE_NOT_FOUND")
        return found[wanted]

    async def WatchSources(
        self, request: source_service_pb2.WatchSourcesRequest, context: object
    ) -> AsyncIterator[source_service_pb2.WatchSourcesResponse]:
        """Give every source with its secrets, then each change, to the gateway."""
        async for message in self._watch.follow(request.after_revision):
            yield message
