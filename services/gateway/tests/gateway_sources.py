"""Sources and a feed of them, for the gateway's tests."""

from __future__ import annotations

import asyncio

from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2, source_service_pb2, tenant_pb2
from trunkline_runtime.errors import DeadlineExceeded, NotFound, Unavailable

SECRET = "072e77e426f92738a72fe23c4d1953b4"


def resolved(source_id: str = "s-1", accepting: bool = True, **quotas: int) -> source_pb2.ResolvedSource:
    return source_pb2.ResolvedSource(
        source=source_pb2.Source(
            name=f"tenants/acme/sources/{source_id}", provider=provider_pb2.PROVIDER_CALLRAIL
        ),
        secrets=[source_pb2.SourceSecret(value=SECRET)],
        accepting=accepting,
        revision=1,
        quotas=tenant_pb2.Quotas(**quotas),
    )


class Feed:
    """Resolves what it holds.

    `down` makes it fail as an unreachable tenant service does, and `late` as one that has too much to do.
    """

    def __init__(self, *sources: source_pb2.ResolvedSource):
        self.sources = {s.source.name.rsplit("/", 1)[1]: s for s in sources}
        self.down = False
        self.late = False
        self.asked = 0

    async def resolve(self, source_id: str) -> source_pb2.ResolvedSource:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("no", reason="DOWN")
        if self.late:
            raise DeadlineExceeded("late")
        if source_id not in self.sources:
            raise NotFound(f"sources/{source_id}")
        return self.sources[source_id]

    async def watch(self, after_revision: int):
        if self.down:
            raise Unavailable("no", reason="DOWN")
        return
        yield


class WatchedFeed(Feed):
    """A feed whose watch has told of all sources, and lasts until `lost` is set."""

    def __init__(self, *sources: source_pb2.ResolvedSource):
        super().__init__(*sources)
        self.lost = asyncio.Event()

    async def watch(self, after_revision: int):
        if self.lost.is_set():
            raise Unavailable("no", reason="DOWN")
        for source in self.sources.values():
            yield source_service_pb2.WatchSourcesResponse(upserted=source, revision=1)
        yield source_service_pb2.WatchSourcesResponse(caught_up=True, revision=1)
        await self.lost.wait()
        raise Unavailable("no", reason="DOWN")
