"""What the Spanner engine does beyond the conformance suite, on the real emulator."""

import asyncio
import os
from datetime import timedelta

import pytest
import sqlalchemy as sa
from google.api_core import exceptions as api
from trunkline_store import (
    Conflict,
    Database,
    SchemaMismatch,
    StoreError,
    StoreUnavailable,
    Text,
    insert_if_absent,
)
from trunkline_store.declare import by_index
from trunkline_store.testing.conformance import (
    ENTRIES,
    METADATA,
    MOMENT,
    THINGS,
    add,
    ids,
    labels,
    refusal,
    thing,
)

from tests.integration.spanner_emulator import require_emulator, spanner_url  # noqa: F401 - a fixture

NUMBER = sa.select(THINGS.c.number).where(THINGS.c.thing_id == "one")


@pytest.fixture
async def db(spanner_url):  # noqa: F811
    async with await Database.open(spanner_url, METADATA, readers=2) as database:
        yield database


def add_one(conn):
    number = conn.execute(NUMBER).scalar_one()
    conn.execute(sa.update(THINGS).where(THINGS.c.thing_id == "one").values(number=number + 1))


def lost_once(monkeypatch, db, method, error, *, after=False):
    """Let a call of the client fail once, before it was sent or after it was done."""
    real = getattr(db._client, method)
    calls = []

    def failing(*args, **kwargs):
        calls.append(method)
        if len(calls) > 1:
            return real(*args, **kwargs)
        if after:
            real(*args, **kwargs)
        raise error

    monkeypatch.setattr(db._client, method, failing)
    return calls


async def test_writers_that_abort_each_other_all_succeed(spanner_url):  # noqa: F811
    async with (
        await Database.open(f"{spanner_url}?writers=3", METADATA) as one,
        await Database.open(spanner_url, METADATA) as other,
    ):
        await one.write(add(**thing("one", number=0)))
        await asyncio.gather(*[db.write(add_one) for db in (one, other) for _ in range(15)])
        assert await one.read(lambda conn: conn.execute(NUMBER).scalar_one()) == 30
        assert one.repeated + other.repeated > 0


@pytest.mark.parametrize("method", ["execute", "commit"])
async def test_an_aborted_callback_runs_again(db, monkeypatch, method):
    from trunkline_store.spanner.errors import TransactionLost

    await db.write(add(**thing("one", number=0)))
    lost_once(monkeypatch, db, method, TransactionLost("aborted", delay=0.0))
    runs = []
    await db.write(lambda conn: (runs.append(1), add_one(conn)))
    assert len(runs) == 2
    assert await db.read(lambda conn: conn.execute(NUMBER).scalar_one()) == 1


async def test_a_callback_that_swallows_the_abort_runs_again_all_the_same(db, monkeypatch):
    from trunkline_store.spanner.errors import TransactionLost

    await db.write(add(**thing("one", number=0)))
    lost_once(monkeypatch, db, "execute", TransactionLost("aborted"))

    def careless(conn):
        try:
            add_one(conn)
        except StoreError:
            return "gave up"
        return "added"

    assert await db.write(careless) == "added"


async def test_a_forgotten_session_is_replaced(db):
    from trunkline_store.spanner.client import Deadline

    await db.write(add(**thing("one")))
    for session in list(db._sessions._all):
        db._client.delete_session(session, Deadline(5))
    await db.write(add(**thing("two")))
    assert await db.read(ids) == ["one", "two"]
    await db.appender(ENTRIES).append(("row", None, None))
    assert await db.read(labels) == ["row"]


async def test_a_first_statement_that_is_refused_leaves_a_transaction_that_ends(db):
    """The client's own layers would wait for ever for the transaction that the statement should have begun."""
    await db.write(add(**thing("one")))

    def careless(conn):
        with pytest.raises(Conflict):
            conn.execute(sa.insert(THINGS), thing("one"))
        conn.execute(sa.insert(THINGS), thing("two"))

    # A refused statement ends the transaction on Spanner; what it raised comes back, and nothing is kept.
    assert isinstance(await refusal(db.write(careless)), Conflict)
    assert await db.read(ids) == ["one"]


async def test_a_stale_read_shows_the_past_and_a_plain_one_the_present(db):
    staleness = timedelta(seconds=1)
    assert await db.read(ids, staleness=timedelta(hours=1)) == [], "no older than the table"
    async with asyncio.timeout(20):
        while await refusal(db.read(ids, staleness=staleness)) is not None:
            await asyncio.sleep(0.05)
    await db.write(add(**thing("new")))
    assert await db.read(ids, staleness=staleness) == []
    assert await db.read(ids) == ["new"]
    async with asyncio.timeout(20):
        while await db.read(ids, staleness=staleness) != ["new"]:
            await asyncio.sleep(0.05)


async def test_an_append_whose_answer_was_lost_is_there_once(db, monkeypatch):
    appender = db.appender(ENTRIES)
    calls = lost_once(monkeypatch, db, "insert", StoreUnavailable("connection reset"), after=True)
    await asyncio.gather(*[appender.append((f"{n}", MOMENT, b"x" * n)) for n in range(9)])
    assert sorted(await db.read(labels)) == [f"{n}" for n in range(9)]
    assert len(calls) > 1


def lossy_commits(monkeypatch, db, *answers):
    """Let commits happen and their answers be these errors, one after the other; None is the true answer."""
    real, left = db._client._data.commit, list(answers)

    def commit(*args, **kwargs):
        error = left.pop(0) if left else None
        if isinstance(error, tuple):  # nothing is done: Spanner does not know the transaction any more
            raise error[0]
        answer = real(*args, **kwargs)
        if error is not None:
            raise error
        return answer

    monkeypatch.setattr(db._client._data, "commit", commit)


AWAY = api.ServiceUnavailable("connection reset")
FORGOTTEN = [
    api.Aborted("aborted"),
    api.NotFound("Session not found: s"),
    api.FailedPrecondition("it has ended"),
]


async def test_a_commit_whose_answer_was_lost_is_asked_for_again_and_done_once(db, monkeypatch):
    await db.write(add(**thing("one", number=0)))
    for _ in range(2):
        lossy_commits(monkeypatch, db, AWAY, AWAY)
        await db.write(add_one)
    lossy_commits(monkeypatch, db, AWAY)
    assert await db.write(lambda conn: insert_if_absent(conn, THINGS, thing("two"), ["thing_id"])) is True
    assert await db.read(lambda conn: conn.execute(NUMBER).scalar_one()) == 2
    assert db.repeated == 0, "the callback ran once"


@pytest.mark.parametrize("forgotten", FORGOTTEN, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("kind", ["insert", "count"])
async def test_a_commit_that_may_have_been_kept_is_neither_a_conflict_nor_done_twice(
    db, monkeypatch, forgotten, kind
):
    from trunkline_store.spanner.errors import CommitUnknown

    await db.write(add(**thing("one", number=0)))
    lossy_commits(monkeypatch, db, AWAY, (forgotten,))
    told = await refusal(db.write(add(**thing("two")) if kind == "insert" else add_one))
    assert isinstance(told, CommitUnknown), told
    assert isinstance(told, StoreUnavailable)
    assert "connection reset" in str(told)
    if kind == "insert":
        assert await db.read(ids) == ["one", "two"]
    else:
        assert await db.read(lambda conn: conn.execute(NUMBER).scalar_one()) == 1


@pytest.mark.parametrize(
    "error", [api.Aborted("aborted"), api.NotFound("Session not found: s")], ids=["aborted", "forgotten"]
)
async def test_a_commit_that_was_refused_at_once_runs_its_callback_again(db, monkeypatch, error):
    await db.write(add(**thing("one", number=0)))
    lossy_commits(monkeypatch, db, (error,))
    await db.write(add_one)
    assert await db.read(lambda conn: conn.execute(NUMBER).scalar_one()) == 1


async def test_rows_with_keys_of_their_own_are_told_from_strangers(db, monkeypatch):
    await db.write(add(**thing("one", label="first")))
    appender = db.appender(THINGS)

    def row(thing_id, label):
        return tuple(thing(thing_id, label=label).get(name) for name in appender.columns)

    lost_once(monkeypatch, db, "insert", StoreUnavailable("connection reset"), after=True)
    await asyncio.gather(appender.append(row("two", "x")), appender.append(row("three", "y")))
    results = await asyncio.gather(
        appender.append(row("one", "other")), appender.append(row("four", "z")), return_exceptions=True
    )
    assert isinstance(results[0], Conflict)
    assert results[1] is None
    assert await db.read(ids) == ["four", "one", "three", "two"]


async def test_two_rows_that_draw_one_key_both_stay(db, monkeypatch):
    import secrets

    keys = iter([7, 7, 8])
    appender = db.appender(ENTRIES)
    monkeypatch.setattr(secrets, "randbits", lambda bits: next(keys))
    await appender.append(("first", None, None))
    await appender.append(("second", None, None))
    rows = sa.select(ENTRIES.c.entry_id, ENTRIES.c.label).order_by(ENTRIES.c.entry_id)
    assert await db.read(lambda conn: [tuple(row) for row in conn.execute(rows)]) == [
        (7, "first"),
        (8, "second"),
    ]


async def test_appended_rows_are_pending_until_somebody_is_done_with_them(db):
    appender = db.appender(ENTRIES)
    await asyncio.gather(*[appender.append((f"{n:02}", MOMENT, None)) for n in range(40)])
    c = ENTRIES.c

    def take(conn, shard, limit=100):
        waiting = (
            by_index(sa.select(c.entry_id, c.label), ENTRIES, "entries_pending")
            .where(c.pending == shard)
            .order_by(c.at)
            .limit(limit)
        )
        rows = conn.execute(waiting).all()
        done = sa.update(ENTRIES).where(c.entry_id.in_([row[0] for row in rows])).values(pending=None)
        return [row[1] for row in rows] if not rows or conn.execute(done).rowcount == len(rows) else None

    taken = [await db.write(lambda conn, shard=shard: take(conn, shard)) for shard in range(4)]
    assert sorted(label for part in taken for label in part) == [f"{n:02}" for n in range(40)]
    assert sum(bool(part) for part in taken) > 1
    assert [await db.write(lambda conn, shard=shard: take(conn, shard)) for shard in range(4)] == [[]] * 4


async def test_sessions_are_made_before_they_are_needed(db, monkeypatch):
    address = db.address
    readers = scanners = 2
    assert len(db._sessions._all) == readers + scanners + address.writers + address.appends

    def refuse(*_):
        raise AssertionError("a session was made late")

    monkeypatch.setattr(db._client, "create_sessions", refuse)
    await asyncio.gather(*(call(ids) for call in (db.read, db.scan, db.write) for _ in range(8)))
    await db.appender(ENTRIES).append(("row", None, None))
    await db.check()


@pytest.fixture
def own_emulator():
    """An emulator that a test may stop."""
    shared = require_emulator()
    from trunkline_store.spanner.emulator import Emulator

    emulator = Emulator()
    emulator.start()
    yield emulator
    emulator.stop()
    os.environ["SPANNER_EMULATOR_HOST"] = shared.address


async def test_nothing_waits_longer_than_its_deadline(own_emulator):
    """The emulator is stopped as by a debugger: it takes connections and says nothing."""
    url = f"{own_emulator.create_database()}?deadline_seconds=0.6"
    async with await Database.open(url, METADATA) as db:
        await db.write(add(**thing("one")))
        appender = db.appender(ENTRIES)
        own_emulator.pause()
        async with asyncio.timeout(10):
            failed = await asyncio.gather(
                db.read(ids),
                db.write(add(**thing("two"))),
                appender.append(("row", None, None)),
                db.check(),
                return_exceptions=True,
            )
        assert all(isinstance(error, StoreUnavailable) for error in failed), failed
        assert appender.waiting == 0
        own_emulator.go_on()
        async with asyncio.timeout(10):
            while await refusal(db.check()) is not None:
                await asyncio.sleep(0.05)
            while await refusal(db.write(add(**thing("three")))) is not None:
                await asyncio.sleep(0.05)
        assert {"one", "three"} <= set(await db.read(ids))


async def test_a_store_that_is_gone_is_said_to_be_unavailable(own_emulator):
    url = f"{own_emulator.create_database()}?deadline_seconds=0.5"
    async with await Database.open(url, METADATA) as db:
        own_emulator.stop()
        for work in (db.read(ids), db.write(ids), db.appender(ENTRIES).append(("row", None, None))):
            assert isinstance(await refusal(work), StoreUnavailable)


async def test_a_database_that_is_not_there_is_named(spanner_url):  # noqa: F811
    with pytest.raises(StoreError, match="nowhere"):
        await Database.open(spanner_url.replace("/databases/", "/databases/nowhere-"), METADATA)


async def test_a_table_that_is_not_there_is_no_value_error(db):
    missing = sa.Table("missing", sa.MetaData(), sa.Column("x", Text(4), primary_key=True))
    raised = await refusal(db.read(lambda conn: conn.execute(sa.select(missing)).all()))
    assert type(raised) is StoreError
    assert not isinstance(raised, SchemaMismatch)


async def test_the_schema_is_no_business_of_a_callback(db):
    raised = await refusal(db.write(lambda conn: conn.exec_driver_sql("DROP TABLE things")))
    assert isinstance(raised, StoreError)
    assert await db.read(ids) == []
