"""What an engine heard is used again for the same sound of the same tenant, and one process at a time has it listen.

A result is the transcript that was made of it. So it goes with that transcript, that recording, and that tenant, when
one of them is deleted or expires.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_runtime.process.periodic import set_aside
from trunkline_store.database import Database
from trunkline_store.declare import by_index
from trunkline_store.hot import Hot
from trunkline_store.inserts import insert_if_absent
from trunkline_store.records.expiry import is_over

from trunkline_audio.schema import recordings, result_claims, transcripts
from trunkline_audio.transcripts.rows import Transcript

LEASE_SECONDS = 10.0
"""A process that died holds a result back for so long."""
LOOK_SECONDS = 0.25

_TENANT: sa.BindParameter[str] = sa.bindparam("tenant")
_KEY: sa.BindParameter[str] = sa.bindparam("key")
_NOW = sa.bindparam("now", type_=transcripts.c.expire_at.type)


def _lives(expire_at: sa.Column[datetime]) -> sa.ColumnElement[bool]:
    return sa.or_(expire_at.is_(None), expire_at > _NOW)


_RESULT = Hot(
    by_index(
        sa.select(transcripts)
        .where(
            transcripts.c.tenant_id == _TENANT,
            transcripts.c.result_key == _KEY,
            _lives(transcripts.c.expire_at),
            sa.exists().where(
                recordings.c.tenant_id == transcripts.c.tenant_id,
                recordings.c.recording_id == transcripts.c.recording_id,
                _lives(recordings.c.expire_at),
            ),
        )
        .limit(1),
        transcripts,
        "transcripts_by_result",
    )
)
_CLAIM = Hot(
    sa.select(result_claims).where(result_claims.c.tenant_id == _TENANT, result_claims.c.result_key == _KEY)
)


@dataclass(frozen=True)
class Standing:
    """How a result stands: it is there, or somebody has an engine listen for it, or neither."""

    result: Transcript | None = None
    is_held: bool = False


class Results:
    """The results of all tenants, as one process sees them; every call names one tenant.

    Intervals: `results.look`, at which it looks whether another process has made a result.
    """

    def __init__(
        self,
        db: Database,
        now: Callable[[Connection], datetime],
        *,
        lease_seconds: float = LEASE_SECONDS,
        pace: Pace = MACHINE,
        shared: bool | None = None,
    ) -> None:
        """`now` is the time that leases begin and end by: Queue.now.

        `shared` says whether other processes make results of the same store; None: as the store's engine has it.
        """
        self._shared = db.features.shared if shared is None else shared
        self._db = db
        self._now = now
        self._lease = timedelta(seconds=lease_seconds)
        self._pace = pace
        self.look_seconds = pace.interval("results.look", LOOK_SECONDS)
        self._holder = f"{random.SystemRandom().getrandbits(128):032x}"
        self._made_here: set[tuple[str, str]] = set()

    async def standing(self, tenant: str, key: str) -> Standing:
        """Return how a result stands."""
        if (tenant, key) in self._made_here:
            return Standing(is_held=True)
        return await self._db.peek(lambda conn: self._standing(conn, tenant, key))

    async def claim(self, tenant: str, key: str) -> Standing | None:
        """Have this process make a result; None when it is to, otherwise how it stands.

        Where no other process has the store open, nothing is written: a claim would cost each transcription a commit.
        """
        if (tenant, key) in self._made_here:
            return Standing(is_held=True)
        self._made_here.add((tenant, key))
        standing: Standing | None = None
        try:
            if self._shared:
                standing = await self._claimed(tenant, key)
            else:
                found = await self._db.peek(lambda conn: self._standing(conn, tenant, key))
                standing = found if found.result is not None else None
        except BaseException:
            self._made_here.discard((tenant, key))
            raise
        if standing is not None:
            self._made_here.discard((tenant, key))
        return standing

    async def _claimed(self, tenant: str, key: str) -> Standing | None:
        def work(conn: Connection) -> Standing | None:
            found = self._standing(conn, tenant, key)
            if found.result is not None or found.is_held:
                return found
            until = self._now(conn) + self._lease
            mine = {"holder": self._holder, "expire_at": until}
            row = {"tenant_id": tenant, "result_key": key, **mine}
            if not insert_if_absent(conn, result_claims, row, ["tenant_id", "result_key"]):
                conn.execute(sa.update(result_claims).where(*_itself(tenant, key)).values(**mine))
            return None

        return await self._db.write(work)

    @asynccontextmanager
    async def held(self, tenant: str, key: str) -> AsyncIterator[None]:
        """Hold what this process has claimed while the block lasts."""
        try:
            if not self._shared:
                yield
                return
            renewing = asyncio.create_task(self._renewing(tenant, key))
            try:
                yield
            finally:
                renewing.cancel()
                await asyncio.wait([renewing])
        finally:
            self._made_here.discard((tenant, key))

    def release(self, conn: Connection, tenant: str, key: str) -> None:
        """Give up what this process holds, if it does."""
        if not self._shared:
            return
        mine = (*_itself(tenant, key), result_claims.c.holder == self._holder)
        conn.execute(sa.delete(result_claims).where(*mine))

    async def give_up(self, tenant: str, key: str) -> None:
        """Release it in a transaction of its own; what cannot be released runs out."""
        if not self._shared:
            return
        with set_aside("results", tenant=tenant):
            await self._db.write(lambda conn: self.release(conn, tenant, key))

    async def _renewing(self, tenant: str, key: str) -> None:
        def work(conn: Connection) -> None:
            mine = (*_itself(tenant, key), result_claims.c.holder == self._holder)
            until = self._now(conn) + self._lease
            conn.execute(sa.update(result_claims).where(*mine).values(expire_at=until))

        while True:
            await self._pace.sleep(self._lease.total_seconds() / 3)
            with set_aside("results", tenant=tenant):
                await self._db.write(work)

    def _standing(self, conn: Connection, tenant: str, key: str) -> Standing:
        asked = {"tenant": tenant, "key": key}
        found = _RESULT.first(conn, {**asked, "now": self._db.clock.now()})
        if found is not None:
            return Standing(Transcript(**found))
        claim = _CLAIM.first(conn, asked)
        return Standing(is_held=claim is not None and not is_over(claim["expire_at"], self._now(conn)))


def _itself(tenant: str, key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return result_claims.c.tenant_id == tenant, result_claims.c.result_key == key
