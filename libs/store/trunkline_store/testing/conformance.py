"""What every engine must do: importable checks, each given a factory of empty databases.

An engine joins by running every check of CHECKS with a factory that opens a new, empty database holding
METADATA. What an engine cannot do is named in EXCLUSIONS with the reason, never skipped in silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trunkline_store.database import Database
from trunkline_store.declare import index_options, pending_column, pending_index
from trunkline_store.errors import Conflict, InvalidValue, StoreBusy, StoreClosed, StoreError
from trunkline_store.inserts import BulkInsert, insert_if_absent
from trunkline_store.types import Bool, Bytes, Json, Text, UtcTimestamp

Factory = Callable[[], AbstractAsyncContextManager[Database]]
Check = Callable[[Factory], Awaitable[None]]

CHECKS: dict[str, Check] = {}
EXCLUSIONS: dict[tuple[str, str], str] = {
    ("spanner", "appended_rows_of_one_caller_keep_their_order"): (
        "keys of append-only tables are random there, so that no split is hot; the pending index gives the time"
    ),
    ("spanner", "a_conflict_can_be_caught_inside"): (
        "a statement that a constraint refuses ends the transaction there, and the commit raises the same "
        "Conflict; insert_if_absent is what works on both"
    ),
}
"""(engine, check) -> why that engine is let off that check."""

METADATA = sa.MetaData()
THINGS = sa.Table(
    "things",
    METADATA,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("thing_id", Text(40), primary_key=True),
    sa.Column("label", Text(100), nullable=False),
    sa.Column("at", UtcTimestamp),
    sa.Column("facts", Json),
    sa.Column("raw", Bytes),
    sa.Column("good", Bool),
    sa.Column("number", sa.BigInteger),
)
ENTRIES = sa.Table(
    "entries",
    METADATA,
    sa.Column("entry_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("label", Text(100), nullable=False),
    sa.Column("at", UtcTimestamp),
    sa.Column("body", Bytes),
    pending_column(shards=4),
    pending_index("entries_pending", "at"),
)
NAMES = sa.Table(
    "names",
    METADATA,
    sa.Column("name_id", Text(40), primary_key=True),
    sa.Column("name", Text(40), nullable=False),
    sa.Index("names_by_name", "name", unique=True, info=index_options()),
)
KEY = ["tenant_id", "thing_id"]
MOMENT = datetime(2026, 3, 29, 1, 59, 59, 123456, tzinfo=UTC)


def check(function: Check) -> Check:
    """Enrol a check in the suite."""
    CHECKS[function.__name__] = function
    return function


def thing(thing_id: str, **values: Any) -> dict[str, Any]:
    """Return a row of THINGS."""
    return {"tenant_id": "acme", "thing_id": thing_id, "label": "x", **values}


def add(**values: Any) -> Callable[[Connection], None]:
    """Return a callback that inserts one thing."""

    def callback(conn: Connection) -> None:
        conn.execute(sa.insert(THINGS), values)

    return callback


async def refusal(work: Awaitable[Any]) -> BaseException | None:
    """Return what the work raised, None if nothing."""
    try:
        await work
    except Exception as exc:
        return exc
    return None


def ids(conn: Connection) -> list[str]:
    """Return the ids of all things, sorted."""
    return list(conn.execute(sa.select(THINGS.c.thing_id).order_by(THINGS.c.thing_id)).scalars())


def listed(query: sa.Select[Any]) -> Callable[[Connection], list[str]]:
    """Return a callback that lists a query's first column."""
    return lambda conn: list(conn.execute(query).scalars())


def labels(conn: Connection) -> list[str]:
    """Return the labels of all entries, in the order of their keys."""
    return list(conn.execute(sa.select(ENTRIES.c.label).order_by(ENTRIES.c.entry_id)).scalars())


@check
async def a_write_is_seen_once_it_returned(open_database: Factory) -> None:
    """Read what was written, at once."""
    async with open_database() as db:
        await db.write(add(**thing("one")))
        assert await db.read(ids) == ["one"]


@check
async def a_write_returns_what_its_callback_returned(open_database: Factory) -> None:
    """Also None and falsy values."""
    async with open_database() as db:
        assert await db.write(lambda conn: conn.execute(sa.select(sa.literal(7))).scalar_one()) == 7
        assert await db.write(lambda conn: conn.exec_driver_sql("SELECT NULL").scalar_one()) is None


@check
async def a_callback_that_raises_leaves_nothing(open_database: Factory) -> None:
    """And what it raised comes back as it is."""

    class OwnError(Exception):
        pass

    def fails(conn: Connection) -> None:
        conn.execute(sa.insert(THINGS), thing("half"))
        raise OwnError

    async with open_database() as db:
        assert isinstance(await refusal(db.write(fails)), OwnError)
        assert await db.read(ids) == []


@check
async def a_failing_callback_harms_no_other(open_database: Factory) -> None:
    """Many at once, every third one fails after it wrote."""

    def work(number: int) -> Callable[[Connection], int]:
        def callback(conn: Connection) -> int:
            conn.execute(sa.insert(THINGS), thing(f"{number:03}"))
            if number % 3 == 0:
                raise ValueError(number)
            return number

        return callback

    async with open_database() as db:
        results = await asyncio.gather(*[db.write(work(n)) for n in range(60)], return_exceptions=True)
        for number, result in enumerate(results):
            assert isinstance(result, ValueError) if number % 3 == 0 else result == number
        assert await db.read(ids) == [f"{n:03}" for n in range(60) if n % 3]


@check
async def a_key_that_is_there_is_a_conflict(open_database: Factory) -> None:
    """And the row stays as it was."""
    async with open_database() as db:
        await db.write(add(**thing("one", label="first")))
        assert isinstance(await refusal(db.write(add(**thing("one", label="second")))), Conflict)
        assert await db.read(lambda conn: conn.execute(sa.select(THINGS.c.label)).scalar_one()) == "first"


@check
async def a_conflict_can_be_caught_inside(open_database: Factory) -> None:
    """The store's error, not the driver's, rises already inside the callback."""

    def careful(conn: Connection) -> str:
        conn.execute(sa.insert(THINGS), thing("two"))
        try:
            conn.execute(sa.insert(THINGS), thing("one"))
        except Conflict:
            return "there"
        return "inserted"

    async with open_database() as db:
        await db.write(add(**thing("one")))
        assert await db.write(careful) == "there"
        assert await db.read(ids) == ["one", "two"]


@check
async def values_that_do_not_fit_are_refused(open_database: Factory) -> None:
    """By InvalidValue, whichever engine would have swallowed them."""
    refused: list[dict[str, Any]] = [
        {"label": None},
        {"label": "a lone \ud800 surrogate"},
        {"label": "a NUL \0"},
        {"label": 7},
        {"at": MOMENT.replace(tzinfo=None)},
        {"at": "2026-01-01T00:00:00Z"},
        {"facts": {"not": float("nan")}},
        {"facts": {"lone": "\udfff"}},
        {"facts": {"set": {1}}},
        {"raw": "text"},
        {"good": 1},
        {"number": 1 << 64},
    ]
    async with open_database() as db:
        for values in refused:
            raised = await refusal(db.write(add(**thing("bad", **values))))
            assert isinstance(raised, InvalidValue), (list(values), raised)
        assert await db.read(ids) == []


@check
async def values_come_back_as_they_went_in(open_database: Factory) -> None:
    """Whole, to the microsecond, in UTC, and NULL as None."""
    full = thing(
        "full",
        label="Zoë 🙂 “x”",
        at=MOMENT.astimezone(timezone(timedelta(hours=-5))),
        facts={"b": [1, 2.5, None, True, "é"], "a": {"deep": {}}},
        raw=bytes(range(256)),
        good=False,
        number=-(1 << 63),
    )
    empty = thing("none", at=None, facts=None, raw=None, good=None, number=None)
    async with open_database() as db:
        await db.write(add(**full))
        await db.write(add(**empty))
        rows = await db.read(
            lambda conn: [
                dict(row) for row in conn.execute(sa.select(THINGS).order_by(THINGS.c.thing_id)).mappings()
            ]
        )
        assert rows == [full, empty]
        assert rows[0]["at"].utcoffset() == timedelta(0)
        assert rows[0]["good"] is False
        assert list(rows[0]["facts"]) == ["a", "b"]


@check
async def moments_sort_and_compare_as_time(open_database: Factory) -> None:
    """Before 1970 too, and to the microsecond."""
    moments = [
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        MOMENT,
        MOMENT + timedelta(microseconds=1),
    ]
    async with open_database() as db:
        for index, moment in enumerate(reversed(moments)):
            await db.write(add(**thing(str(index), at=moment)))
        found = await db.read(
            lambda conn: list(conn.execute(sa.select(THINGS.c.at).order_by(THINGS.c.at)).scalars())
        )
        assert found == moments
        later = sa.select(THINGS.c.at).where(THINGS.c.at > MOMENT)
        assert await db.read(lambda conn: list(conn.execute(later).scalars())) == moments[2:]


@check
async def what_queries_compare_with_means_the_same(open_database: Factory) -> None:
    """IS, IN, LIKE, CASE, COALESCE, NULLs in order: as services' queries use them."""
    c = THINGS.c
    queries: list[tuple[Any, list[str]]] = [
        (c.good.is_(True), ["yes"]),
        (c.good.is_not(True), ["no", "none"]),
        (c.good.is_(None), ["none"]),
        (c.good.is_not(None), ["no", "yes"]),
        (c.good == sa.true(), ["yes"]),
        (c.number.in_([1, 2]), ["no", "yes"]),
        (c.number.in_([]), []),
        (c.number.not_in([1]), ["no"]),
        (c.label.like("100\\%"), []),
        (c.label.like("100%"), ["no"]),
        (sa.func.coalesce(c.number, 7) == 7, ["none"]),
        (sa.case((c.number > 1, "much"), else_="little") == "little", ["none", "yes"]),
    ]
    async with open_database() as db:
        await db.write(add(**thing("yes", good=True, number=1)))
        await db.write(add(**thing("no", good=False, number=2, label="100% sure")))
        await db.write(add(**thing("none", good=None, number=None)))
        for condition, expected in queries:
            found = sa.select(c.thing_id).where(condition).order_by(c.thing_id)
            assert await db.read(listed(found)) == expected, condition
        assert await db.read(listed(sa.select(c.thing_id).order_by(c.number))) == ["none", "yes", "no"]
        counted = sa.select(
            sa.func.count(), sa.func.min(c.number), sa.func.max(c.number), sa.func.sum(c.number)
        )
        assert await db.read(lambda conn: tuple(conn.execute(counted).one())) == (3, 1, 2, 3)


@check
async def insert_if_absent_inserts_once(open_database: Factory) -> None:
    """However many try at once."""
    async with open_database() as db:
        results = await asyncio.gather(
            *[db.write(lambda conn: insert_if_absent(conn, THINGS, thing("one"), KEY)) for _ in range(20)]
        )
        assert sorted(results) == [False] * 19 + [True]
        assert await db.read(ids) == ["one"]


@check
async def insert_if_absent_swallows_nothing_else(open_database: Factory) -> None:
    """A missing value is an error, not an absence."""
    async with open_database() as db:
        bad = thing("one", label=None)
        raised = await refusal(db.write(lambda conn: insert_if_absent(conn, THINGS, bad, KEY)))
        assert isinstance(raised, InvalidValue)
        assert await db.read(ids) == []


@check
async def insert_if_absent_holds_for_a_unique_index(open_database: Factory) -> None:
    """Not for the primary key alone; many by one statement too."""
    bulk = BulkInsert(NAMES, if_absent=["name"])
    async with open_database() as db:
        row = {"name_id": "1", "name": "ann"}
        assert await db.write(lambda conn: insert_if_absent(conn, NAMES, row, ["name"]))
        again = {"name_id": "2", "name": "ann"}
        assert not await db.write(lambda conn: insert_if_absent(conn, NAMES, again, ["name"]))
        rows = [("3", "ann"), ("4", "bob"), ("5", "bob")]
        assert await db.write(lambda conn: bulk.run(conn, rows)) == {"bob"}
        stored = sa.select(NAMES).order_by(NAMES.c.name_id)
        found = await db.read(lambda conn: [tuple(row) for row in conn.execute(stored)])
        assert found == [("1", "ann"), ("4", "bob")]


@check
async def changes_of_one_row_all_count(open_database: Factory) -> None:
    """Whoever read what another then changed is run again: nobody's change is lost."""

    def add_one(conn: Connection) -> None:
        number = conn.execute(sa.select(THINGS.c.number)).scalar_one()
        conn.execute(sa.update(THINGS).values(number=number + 1).where(THINGS.c.thing_id == "one"))

    async with open_database() as db:
        await db.write(add(**thing("one", number=0)))
        await asyncio.gather(*[db.write(add_one) for _ in range(12)])
        assert await db.read(lambda conn: conn.execute(sa.select(THINGS.c.number)).scalar_one()) == 12


@check
async def pages_by_key_are_stable_under_writes(open_database: Factory) -> None:
    """Each row that is there from the first page to the last is shown once, whatever comes and goes."""

    def page(after: str) -> Callable[[Connection], list[str]]:
        c = THINGS.c
        rows = sa.select(c.thing_id).where(c.tenant_id == "acme", c.thing_id > after)
        return lambda conn: list(conn.execute(rows.order_by(c.thing_id).limit(3)).scalars())

    gone = sa.delete(THINGS).where(THINGS.c.thing_id.in_(["04", "16"]))

    def remove(conn: Connection) -> None:
        conn.execute(gone)

    async with open_database() as db:
        lasting = [f"{n:02}" for n in range(1, 20, 2)]
        for name in [*lasting, "04", "16"]:
            await db.write(add(**thing(name)))
        shown: list[str] = []
        while found := await db.read(page(shown[-1] if shown else "")):
            shown += found
            await db.write(add(**thing(f"{found[-1]}+")))  # behind the page, and before the next
            await db.write(add(**thing(f"00{len(shown):03}")))  # before all pages
            await db.write(remove)
            if len(shown) > 40:
                break
        assert [name for name in shown if name in lasting] == lasting
        assert len(shown) == len(set(shown))


@check
async def a_bulk_insert_tells_which_were_new(open_database: Factory) -> None:
    """Also when the rows are more than one statement holds."""
    bulk = BulkInsert(THINGS, ["tenant_id", "thing_id", "label", "facts"], if_absent=KEY)
    rows: list[tuple[Any, ...]] = [("acme", f"{n:05}", "x", {"n": n}) for n in range(10_000)]
    async with open_database() as db:
        await db.write(lambda conn: bulk.run(conn, rows[::2]))
        new = await db.write(lambda conn: bulk.run(conn, rows))
        assert new == {("acme", row[1]) for row in rows[1::2]}
        assert len(await db.read(ids)) == len(rows)


@check
async def a_read_sees_one_moment(open_database: Factory) -> None:
    """A commit that comes between its statements stays unseen."""
    async with open_database() as db:
        loop = asyncio.get_running_loop()

        def twice(conn: Connection) -> tuple[list[str], list[str]]:
            before = ids(conn)
            asyncio.run_coroutine_threadsafe(db.write(add(**thing("between"))), loop).result(30)
            return before, ids(conn)

        assert await db.read(twice) == ([], [])
        assert await db.read(ids) == ["between"]


@check
async def a_read_cannot_write(open_database: Factory) -> None:
    """It fails and leaves nothing."""
    async with open_database() as db:
        assert isinstance(await refusal(db.read(add(**thing("sly")))), StoreError)
        assert await db.read(ids) == []


@check
async def a_peek_is_a_read(open_database: Factory) -> None:
    """It sees what was committed, cannot write, and raises what its callback raises."""
    async with open_database() as db:
        await db.write(add(**thing("one")))
        assert await db.peek(ids) == ["one"]
        assert isinstance(await refusal(db.peek(add(**thing("sly")))), StoreError)
        assert isinstance(await refusal(db.peek(lambda conn: 1 / 0)), ZeroDivisionError)
        await db.write(add(**thing("two")))
        assert await db.peek(ids) == ["one", "two"], "also after one that failed"
        assert isinstance(await refusal(db.peek(lambda conn: conn.commit())), StoreError)
        assert await db.read(ids) == ["one", "two"]


@check
async def a_callback_cannot_commit(open_database: Factory) -> None:
    """Nor roll back: the transaction is not its own."""

    def commits(conn: Connection) -> None:
        conn.execute(sa.insert(THINGS), thing("own"))
        conn.commit()

    def rolls_back(conn: Connection) -> None:
        conn.execute(sa.insert(THINGS), thing("own"))
        conn.rollback()

    async with open_database() as db:
        for callback in (commits, rolls_back):
            others = [db.write(add(**thing(f"{callback.__name__}{n}"))) for n in range(5)]
            raised, *_ = await asyncio.gather(db.write(callback), *others, return_exceptions=True)
            assert isinstance(raised, StoreError)
        assert "own" not in await db.read(ids)
        assert len(await db.read(ids)) == 10


@check
async def appended_rows_are_all_there_once(open_database: Factory) -> None:
    """More than one batch and one statement hold, from many awaiters."""
    async with open_database() as db:
        appender = db.appender(ENTRIES)
        assert appender.columns == ("label", "at", "body")

        async def some(worker: int) -> None:
            for number in range(20):
                await appender.append((f"{worker}/{number}", MOMENT, b"x" * number))

        await asyncio.gather(*[some(worker) for worker in range(100)])
        found = await db.read(labels)
        assert sorted(found) == sorted(f"{w}/{n}" for w in range(100) for n in range(20))
        assert appender.waiting == 0
        stored = await db.read(lambda conn: conn.execute(sa.select(ENTRIES.c.at).distinct()).scalars().all())
        assert stored == [MOMENT]
        keys = await db.read(lambda conn: conn.execute(sa.select(ENTRIES.c.entry_id)).scalars().all())
        assert len(set(keys)) == 2000
        assert all(0 <= key < 1 << 63 for key in keys)


@check
async def appended_rows_of_one_caller_keep_their_order(open_database: Factory) -> None:
    """Keys grow in the order of append()."""
    async with open_database() as db:
        appender = db.appender(ENTRIES)
        await asyncio.gather(*[appender.append((f"{n:04}", None, None)) for n in range(1500)])
        assert await db.read(labels) == [f"{n:04}" for n in range(1500)]


@check
async def an_appended_row_that_does_not_fit_fails_alone(open_database: Factory) -> None:
    """Every other row of its batch is committed."""
    async with open_database() as db:
        appender = db.appender(ENTRIES)
        bad: dict[int, tuple[Any, ...]] = {
            5: ("\ud800", MOMENT, b""),
            50: ("naive", MOMENT.replace(tzinfo=None), b""),
            500: (None, MOMENT, b""),
            700: ("huge", MOMENT, 7.5),
        }
        rows = [bad.get(n, (f"{n:04}", MOMENT, b"")) for n in range(800)]
        results = await asyncio.gather(*[appender.append(row) for row in rows], return_exceptions=True)
        for number, result in enumerate(results):
            assert isinstance(result, InvalidValue) if number in bad else result is None, (number, result)
        assert len(await db.read(labels)) == 800 - len(bad)


@check
async def a_row_of_the_wrong_width_is_refused_at_once(open_database: Factory) -> None:
    """Nothing is queued."""
    async with open_database() as db:
        appender = db.appender(ENTRIES)
        try:
            appender.append(("short",))
        except InvalidValue:
            pass
        else:
            raise AssertionError("taken")
        assert appender.waiting == 0


@check
async def a_full_queue_refuses_and_recovers(open_database: Factory) -> None:
    """Bounded in rows and in bytes; what was taken is kept."""
    async with open_database() as db:
        appender = db.appender(ENTRIES, max_rows=10, max_bytes=1000)
        taken = [appender.append((str(n), None, None), 1) for n in range(10)]
        assert _busy(lambda: appender.append(("over", None, None), 1))
        await asyncio.gather(*taken)
        heavy = appender.append(("heavy", None, None), 900)
        assert _busy(lambda: appender.append(("over", None, None), 200))
        await heavy
        await appender.append(("after", None, None), 200)
        assert "over" not in await db.read(labels)
        assert len(await db.read(labels)) == 12


@check
async def a_cancelled_awaiter_harms_no_other(open_database: Factory) -> None:
    """Its own row may be there or not."""
    async with open_database() as db:
        appender = db.appender(ENTRIES)
        futures = [appender.append((f"{n:02}", None, None)) for n in range(20)]
        writes = [asyncio.ensure_future(db.write(add(**thing(f"{n:02}")))) for n in range(20)]
        futures[3].cancel()
        writes[3].cancel()
        results = await asyncio.gather(*futures, *writes, return_exceptions=True)
        assert [n for n, result in enumerate(results) if result is not None] == [3, 23]
        assert set(await db.read(labels)) >= {f"{n:02}" for n in range(20) if n != 3}
        assert set(await db.read(ids)) >= {f"{n:02}" for n in range(20) if n != 3}
        assert appender.waiting == 0


@check
async def the_background_is_written_while_others_crowd(open_database: Factory) -> None:
    """Callbacks and rows both."""
    async with open_database() as db:
        appender = db.appender(ENTRIES)
        done = False

        async def crowds() -> None:
            while not done:
                await appender.append(("crowd", None, None))

        crowd = [asyncio.ensure_future(crowds()) for _ in range(32)]
        try:
            writes = [db.write(add(**thing(f"{n:02}")), background=True) for n in range(5)]
            rows = [appender.append((f"row {n}", None, None), background=True) for n in range(300)]
            async with asyncio.timeout(30):
                await asyncio.gather(*writes, *rows)
        finally:
            done = True
            await asyncio.gather(*crowd)
        assert await db.read(ids) == [f"{n:02}" for n in range(5)]
        there = await db.read(labels)
        assert sorted(label for label in there if label != "crowd") == sorted(f"row {n}" for n in range(300))


@check
async def a_failure_in_the_background_is_its_own(open_database: Factory) -> None:
    """As in the foreground."""
    async with open_database() as db:
        appender = db.appender(ENTRIES)
        await db.write(add(**thing("there")))
        outcomes = await asyncio.gather(
            db.write(add(**thing("there")), background=True),
            db.write(add(**thing("new")), background=True),
            appender.append(("bad", "no time", None), background=True),
            appender.append(("good", None, None), background=True),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [Conflict, type(None), InvalidValue, type(None)]
        assert await db.read(ids) == ["new", "there"]
        assert await db.read(labels) == ["good"]


@check
async def closing_finishes_what_was_taken(open_database: Factory) -> None:
    """Every future is resolved; afterwards nothing is taken."""
    async with open_database() as db:
        appender = db.appender(ENTRIES)
        rows = [appender.append((str(n), None, None)) for n in range(1000)]
        writes = [asyncio.ensure_future(db.write(add(**thing(str(n))))) for n in range(50)]
        await asyncio.sleep(0)  # the writes are queued
        await db.close()
        assert await asyncio.gather(*rows, *writes) == [None] * 1050
        assert isinstance(await refusal(db.write(ids)), StoreClosed)
        assert isinstance(await refusal(db.read(ids)), StoreClosed)
        assert isinstance(await refusal(db.peek(ids)), StoreClosed)
        assert isinstance(await refusal(db.check()), StoreClosed)
        try:
            appender.append(("late", None, None))
        except StoreClosed:
            return
        raise AssertionError("taken")


@check
async def a_store_that_answers_says_so(open_database: Factory) -> None:
    """For health."""
    async with open_database() as db:
        await db.check()


def _busy(work: Callable[[], Any]) -> bool:
    try:
        work()
    except StoreBusy:
        return True
    return False
