"""WatchSources: every source, then each change, from the store, so that any replica serves any watcher."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection
from trunkline.tenant.v1 import source_pb2, source_service_pb2
from trunkline_runtime.process.pace import wait_until
from trunkline_store import Database

from trunkline_tenant import source_changes
from trunkline_tenant.crypto import SecretBox
from trunkline_tenant.source_changes import Change, Reach
from trunkline_tenant.sources import rows as source_rows

SNAPSHOT_PAGE = 200


class Bell:
    """Wakes the watchers of this process at once; those of other replicas look by themselves."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self.closed = False

    def ring(self) -> None:
        """Wake all who listen."""
        self._rung.set()
        self._rung = asyncio.Event()

    def close(self) -> None:
        """End all watches: the process is about to stop."""
        self.closed = True
        self.ring()

    def listen(self) -> asyncio.Event:
        """Return what is set at the next ring; ask before looking, lest a ring in between is missed."""
        return self._rung


@dataclass(frozen=True, slots=True)
class _SeenSources:
    reach: Reach
    changes: Sequence[Change]
    resolved: dict[str, source_pb2.ResolvedSource]


class SourceWatch:
    """Watches over one store, looked at every `poll_seconds` even if no bell rang, `page` changes at a time."""

    def __init__(
        self,
        db: Database,
        box: SecretBox,
        bell: Bell,
        *,
        poll_seconds: float,
        heartbeat_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
        page: int = SNAPSHOT_PAGE,
    ) -> None:
        self._db = db
        self._box = box
        self._bell = bell
        self._poll_seconds = poll_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._monotonic = monotonic
        self._page = page

    async def follow(self, after: int) -> AsyncIterator[source_service_pb2.WatchSourcesResponse]:
        """Give what changed after a revision, then changes as they happen, until the bell is closed.

        Pages are in the order of revisions, so a watcher that is cut off goes on from the last it saw.
        """
        answer = source_service_pb2.WatchSourcesResponse
        reach = await self._db.read(source_changes.reach)
        if after > reach.revision or 0 < after < reach.forgotten:
            yield answer(reset=True)
            after = 0
        fresh = after == 0
        told: float | None = None
        while not self._bell.closed:
            rung = self._bell.listen()
            since = after
            seen = await self._db.read(lambda conn: self._look(conn, since))  # noqa: B023 - awaited right here
            for change in seen.changes:
                after = change.revision
                source = seen.resolved.get(change.source_id)
                if source is not None:
                    yield answer(upserted=source, revision=after)
                elif not fresh:
                    yield answer(deleted_source_id=change.source_id, revision=after)
            if len(seen.changes) == self._page:
                continue
            fresh = False
            now = self._monotonic()
            if told is None or now - told >= self._heartbeat_seconds:
                told = now
                yield answer(caught_up=True, revision=after)
            await wait_until(rung, self._poll_seconds)

    def _look(self, conn: Connection, after: int) -> _SeenSources:
        reach = source_changes.reach(conn)
        if reach.revision <= after:
            return _SeenSources(reach, (), {})
        found = source_changes.since(conn, after, self._page)
        there = [change.source_id for change in found if not change.deleted]
        return _SeenSources(reach, found, source_rows.resolve(conn, self._box, there, self._db.clock.now()))
