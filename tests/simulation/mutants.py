"""Mistakes that somebody could make in the production code; each has to be found by the simulation."""

import asyncio
import contextlib
from unittest import mock

import sqlalchemy as sa
from trunkline_gateway import ids, schema
from trunkline_gateway.intake import decision as decide
from trunkline_gateway.intake.admission import Admission
from trunkline_gateway.intake.backlog import ByCursor
from trunkline_gateway.intake.drain import Drain
from trunkline_gateway.intake.inbox import SpoolingInbox
from trunkline_jobs.claim.grants import Grants
from trunkline_jobs.claim.turns import TenantTurns
from trunkline_jobs.claim.walk import Walk
from trunkline_jobs.queue import Queue
from trunkline_store.hot import Hot
from trunkline_tenant.calls import facts
from trunkline_tenant.leads import rows as lead_rows


@contextlib.contextmanager
def cursor_outside_the_transaction():
    """Admission moves its cursor, and then does the work."""
    take = ByCursor.take

    async def step(self):
        batch = await self._db.read(lambda conn: self._backlog.read(conn, self._batches.usual))
        if not batch.rows:
            return False
        decisions = await self._decide(batch.rows)
        await self._db.write(lambda conn: take(self._backlog, conn, batch))
        self._count(await self._db.write(lambda conn: self._apply(conn, decisions, self._backlog, batch)))
        self._looked_at(decisions, batch.rows)
        return batch.more

    def all_of_it(self, conn, batch):
        return {row.seq for row in batch.rows}

    with (
        mock.patch.object(ByCursor, "take", all_of_it),
        mock.patch.object(Admission, "step", step),
    ):
        yield


@contextlib.contextmanager
def job_in_another_transaction():
    """Admission commits the event, and then makes its job."""
    pending = []

    def later(self, conn, jobs, *, tell=True):
        pending.extend(jobs)
        return set()

    enqueue, count = Queue.enqueue_many, Admission._count

    def counted(self, admitted):
        jobs, pending[:] = list(pending), []
        if jobs:
            asyncio.ensure_future(self._db.write(lambda conn: enqueue(self._queue, conn, jobs)))  # noqa: RUF006
        count(self, admitted)

    with mock.patch.object(Queue, "enqueue_many", later), mock.patch.object(Admission, "_count", counted):
        yield


@contextlib.contextmanager
def token_not_compared():
    """Whoever reports on a job is believed."""
    held = Queue._held

    def believed(self, conn, lease, *more):
        c = schema.jobs.c
        mine = (c.tenant_id == lease.tenant_id, c.job_id == lease.job_id)
        latest = conn.execute(sa.select(c.lease_token).where(*mine)).scalar()
        return held(self, conn, lease._replace(token=latest), *more)

    with mock.patch.object(Queue, "_held", believed):
        yield


@contextlib.contextmanager
def acknowledged_before_the_commit():
    """The 202 is sent while the row is still on its way."""
    append = SpoolingInbox.append

    async def at_once(self, row, size):
        asyncio.ensure_future(append(self, row, size))  # noqa: RUF006

    with mock.patch.object(SpoolingInbox, "append", at_once):
        yield


@contextlib.contextmanager
def doubt_not_resolved():
    """A receipt that may be in the store already is moved there without a look."""

    async def resolve(self):
        self._doubtful.clear()

    with mock.patch.object(Drain, "resolve", resolve):
        yield


@contextlib.contextmanager
def spool_forgets_first():
    """A receipt leaves the spool before the store has it."""

    async def step(self, limit):
        rows = await self._spool.first(limit, self._refused)
        if not rows:
            return False
        await self._spool.forget(rows)
        error = await self._hand_over(rows)
        self._admit_soon()
        if error is not None:
            raise error
        return True

    with mock.patch.object(Drain, "step", step):
        yield


def _made(kind, name, change):
    """A part of the claim whose statement of that name is another."""
    make = kind.__init__

    def made(self, table, *args, **named):
        make(self, table, *args, **named)
        setattr(self, name, Hot(change(getattr(self, name)._statement, table.c)))

    return mock.patch.object(kind, "__init__", made)


@contextlib.contextmanager
def live_leases_given_away():
    """A leased job stays in the queue's index as if it waited, and nobody asks what is being worked on."""

    make = Grants.__init__

    def made(self, table):
        make(self, table)
        self._granted["visible_at"] = sa.bindparam("now_", type_=table.c.visible_at.type)

    with (
        mock.patch.object(Grants, "__init__", made),
        _made(TenantTurns, "_leases", lambda leases, c: leases.where(sa.false())),
    ):
        yield


def groups_not_looked_at():
    """A claim does not see which calls are being worked on."""
    group = sa.null().label("group_key")
    return _made(TenantTurns, "_leases", lambda leases, c: leases.with_only_columns(c.queue_class, group))


def cap_not_looked_at():
    """A claim gives one tenant all that there is room for."""
    claim = Queue.claim

    def uncapped(self, *args, **kwargs):
        return claim(self, *args, **{**kwargs, "in_flight_caps": None})

    return mock.patch.object(Queue, "claim", uncapped)


def first_tenant_only():
    """A claim never gets beyond the first tenant that has a job due."""

    def one(self, conn, place, last):
        return iter(sorted(self._strides(conn, place, "", "\U0010ffff"))[:1])

    return mock.patch.object(Walk, "tenants", one)


def every_delivery_an_event():
    """An event's id is not the same for a redelivery."""

    def another(*_):
        return ids.digest_id("e", (ids.receipt_id(),))

    return mock.patch.object(decide.ids, "event_id", another)


def lead_counted_up():
    """A lead's calls are counted up, whatever they contributed before."""
    change = lead_rows.change

    def counted(conn, tenant, lead, number, parts, now):
        change(conn, tenant, lead, number, ([], parts[1]), now)

    return mock.patch.object(lead_rows, "change", counted)


def last_arrival_stands():
    """Of two statements the one that came later stands, whatever the events' times say."""
    return mock.patch.object(facts, "_stands", return_value=True)


def call_named_by_event():
    """A call is known by the event that told of it."""
    from trunkline_tenant.calls import service

    said_by = service.said_by

    def said(request):
        request.ClearField("aliases")
        request.call.provider_call_id = request.event.rsplit("/", 1)[1]
        return said_by(request)

    return mock.patch.object(service, "said_by", said)


MUTANTS = [
    cursor_outside_the_transaction,
    job_in_another_transaction,
    token_not_compared,
    acknowledged_before_the_commit,
    doubt_not_resolved,
    spool_forgets_first,
    live_leases_given_away,
    groups_not_looked_at,
    cap_not_looked_at,
    first_tenant_only,
    every_delivery_an_event,
    lead_counted_up,
    last_arrival_stands,
    call_named_by_event,
]
