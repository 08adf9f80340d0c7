"""What was deleted on request since a backup (calls, recordings, transcripts), carried into the state that comes back.

The replaced databases know it. Where they are lost, `erasures.json` beside the backups does, which each backup adds to:
ids and times, nothing that was said. A restore that knew only the tombstones of the backup would bring the rest back.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_ai import schema as ai
from trunkline_audio import schema as audio
from trunkline_audio import tombstones
from trunkline_audio.names import RECORDING, TRANSCRIPT
from trunkline_audio.recordings.rows import Recordings
from trunkline_audio.transcripts.rows import Transcripts
from trunkline_gateway import schema as gateway
from trunkline_gateway.events.call_deletion import DELETE_CALL
from trunkline_jobs import Tasks
from trunkline_runtime.api import resources
from trunkline_runtime.errors import InvalidArgument, NotFound
from trunkline_store import Database
from trunkline_store.types import from_microseconds
from trunkline_tenant import schema as tenant
from trunkline_tenant.calls import erasure
from trunkline_tenant.calls.record import forget_recording, forget_transcript

from trunkline_cli.backup.files import connect, write_json
from trunkline_cli.backup.layout import BackupError

LOG = "erasures.json"
FORMAT = 1
_TENANTS = "SELECT tenant_id, delete_time FROM tenants WHERE delete_time IS NOT NULL"
_CALLS = f"SELECT tenant_id, alias_id, call_id FROM call_aliases WHERE place = {erasure.ERASED}"
_RESOURCES = "SELECT tenant_id, name, deleted_at FROM deleted_resources"
_A_STEP = 500


@dataclass
class Erasures:
    """What was deleted on request; times in microseconds since 1970."""

    tenants: dict[str, int] = field(default_factory=dict)
    calls: dict[tuple[str, str], str] = field(default_factory=dict)
    """The call that each id (tenant and id) is one of."""
    resources: dict[tuple[str, str], int] = field(default_factory=dict)
    """When the recordings and transcripts (tenant and whole name) went."""

    def add(self, other: Erasures) -> None:
        """Add what another one knows."""
        self.tenants = other.tenants | self.tenants
        self.calls = other.calls | self.calls
        self.resources = other.resources | self.resources


@dataclass
class Erased:
    """What a restore did with them."""

    calls: int = 0
    """Calls that are there again, whose deletion is the gateway's first task."""
    resources: int = 0
    """Recordings and transcripts that would have been there again."""


def erasures_of(databases: Mapping[str, Path]) -> Erasures:
    """Return what the databases of a suite know; one that cannot be read, or is of an earlier release, adds nothing."""
    found = Erasures()
    tenants = _rows(databases["tenant"], _TENANTS)
    calls = _rows(databases["tenant"], _CALLS)
    resources_ = _rows(databases["audio"], _RESOURCES)
    found.tenants = {name: int(at) for name, at in tenants}
    found.calls = {(of, alias): call for of, alias, call in calls}
    found.resources = {(of, name): int(at) for of, name, at in resources_}
    return found


def read_log(folder: Path) -> Erasures:
    """Return what the log beside the backups of a folder says. Raises BackupError for a damaged one."""
    file = folder / LOG
    if not file.exists():
        return Erasures()
    try:
        kept = json.loads(file.read_text())
        return Erasures(
            tenants=dict(kept["tenants"]),
            calls={(of, alias): call for of, alias, call in kept["calls"]},
            resources={(of, name): at for of, name, at in kept["resources"]},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{file} is damaged: {error}; without it, what was deleted may come back") from None


def write_log(folder: Path, known: Erasures) -> None:
    """Add what is known to the log beside the backups of a folder. Raises BackupError for a damaged one."""
    merged = read_log(folder)
    merged.add(known)
    value = {
        "format": FORMAT,
        "tenants": sorted(merged.tenants.items()),
        "calls": sorted([*key, call] for key, call in merged.calls.items()),
        "resources": sorted([*key, at] for key, at in merged.resources.items()),
    }
    write_json(folder / LOG, value)
    (folder / LOG).chmod(0o600)


async def erase_again(databases: Mapping[str, Path], known: Erasures) -> Erased:
    """Delete from prepared databases what was deleted since, and keep its tombstones.

    Recordings and transcripts go here, before their bytes are put back. Calls go as on request, by a task that the
    gateway's next start begins with, since several services have a part of them.
    """
    known.add(erasures_of(databases))  # of the backup's own time: its databases are of different moments
    schemas = {"gateway": gateway, "audio": audio, "ai": ai, "tenant": tenant}
    async with AsyncExitStack() as stack:
        dbs = {
            name: await stack.enter_async_context(
                await Database.open(f"sqlite:///{databases[name]}", schema.metadata)
            )
            for name, schema in schemas.items()
        }
        erased = Erased()
        await dbs["audio"].write(lambda conn: _bury(conn, known.resources))
        for of, name in sorted(known.resources):
            erased.resources += await _delete(dbs, of, name)
        await dbs["tenant"].write(lambda conn: _leave(conn, known.calls))
        erased.calls = await _order(dbs, known.calls)
    return erased


def _bury(conn: Connection, known: Mapping[tuple[str, str], int]) -> None:
    for (of, name), at in known.items():
        if (time := from_microseconds(at)) is not None:
            tombstones.leave(conn, of, name, time)


async def _delete(dbs: Mapping[str, Database], of: str, name: str) -> bool:
    """Delete a recording or a transcript as on request; whether it was there."""
    db = dbs["audio"]
    recordings, transcripts = Recordings(db), Transcripts(db)
    try:
        recording = resources.parse(RECORDING, name)["recording"]
    except InvalidArgument:
        transcript = resources.parse(TRANSCRIPT, name)["transcript"]
        call = await transcripts.call_of(of, transcript)
        if call is None:
            return False
        if call:
            await _forget(dbs["tenant"], of, call, name, recording=False)
        return await transcripts.delete(of, transcript)
    found = await recordings.get(of, recording)
    if found is None:
        return False
    if found.call:
        await _forget(dbs["tenant"], of, found.call, name, recording=True)
    return await recordings.delete(of, recording)


async def _forget(db: Database, of: str, call: str, name: str, *, recording: bool) -> None:
    """Take it out of its call, if that is there."""
    call_id, now = call.rpartition("/")[2], db.clock.now()

    def work(conn: Connection) -> None:
        try:
            if recording:
                forget_recording(conn, of, call_id, name, now, transcript_stays=False)
            else:
                forget_transcript(conn, of, call_id, name, now)
        except NotFound:
            return

    await db.write(work)


def _leave(conn: Connection, calls: Mapping[tuple[str, str], str]) -> None:
    """Leave the tombstones of calls that are not there: an event about one may be delivered again."""
    there = set(conn.execute(sa.select(tenant.tenants.c.tenant_id)).scalars())
    for (of, alias), call in calls.items():
        if of in there:
            erasure.leave(conn, of, alias, call)


async def _order(dbs: Mapping[str, Database], calls: Mapping[tuple[str, str], str]) -> int:
    """Have the gateway delete those of the calls of which any database has something; how many."""
    names = {*calls, *((of, call) for (of, _), call in calls.items())}
    alias = tenant.call_aliases.c
    queries = (
        ("tenant", sa.select(tenant.calls.c.tenant_id, tenant.calls.c.call_id)),
        ("tenant", sa.select(alias.tenant_id, alias.alias_id).where(alias.place != erasure.ERASED)),
        ("gateway", sa.select(gateway.events.c.tenant_id, gateway.events.c.call).distinct()),
        ("audio", sa.select(audio.recordings.c.tenant_id, audio.recordings.c.call).distinct()),
        ("ai", sa.select(ai.analyses.c.tenant_id, ai.analyses.c.call_id).distinct()),
    )
    wanted: dict[str, set[str]] = defaultdict(set)
    for name, query in queries:
        for of, call in await dbs[name].scan(lambda conn: conn.execute(query).all()):  # noqa: B023 - awaited here
            identity = str(call).rpartition("/")[2]
            if (of, identity) in names:
                wanted[of].add(identity)
    tasks = Tasks(dbs["gateway"], gateway.tasks)

    async def put(of: str, subjects: list[str]) -> None:
        await dbs["gateway"].write(
            lambda conn: tasks.put(conn, DELETE_CALL, *subjects, tenant=of, hurry=True)
        )

    for of, found in wanted.items():
        some = sorted(found)
        for start in range(0, len(some), _A_STEP):
            await put(of, some[start : start + _A_STEP])
    return sum(len(found) for found in wanted.values())


def _rows(database: Path, query: str) -> list[tuple[str, ...]]:
    if not database.exists():
        return []
    try:
        with closing(connect(database)) as conn:
            return conn.execute(query).fetchall()
    except sqlite3.Error:  # a restore says of a damaged one that it could not be read
        return []


def deleted_tenants(known: Erasures) -> dict[str, datetime]:
    """Return when the tenants went."""
    times = ((name, from_microseconds(at)) for name, at in known.tenants.items())
    return {name: time for name, time in times if time is not None}
