"""Hot statements give what SQLAlchemy gives, by both ways, and never hide from who looks at statements."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from trunkline_store import Conflict, Database, InvalidValue
from trunkline_store.hot import Hot
from trunkline_store.types import Json, Text, UtcTimestamp

METADATA = sa.MetaData()
things = sa.Table(
    "things",
    METADATA,
    sa.Column("tenant_id", Text(40), primary_key=True),
    sa.Column("thing_id", Text(40), primary_key=True),
    sa.Column("facts", Json, nullable=False),
    sa.Column("good", sa.Boolean, nullable=False, default=False),
    sa.Column("at", UtcTimestamp, nullable=True),
    sa.Column("raw", sa.LargeBinary, nullable=True),
    sa.Column("score", sa.Float, nullable=True),
)
OF = sa.select(things).where(things.c.tenant_id == sa.bindparam("tenant"))
ONE = Hot(OF.where(things.c.thing_id == sa.bindparam("thing")))
SOME = Hot(
    OF.where(things.c.thing_id.in_(sa.bindparam("things", expanding=True))).order_by(things.c.thing_id)
)
GOOD = Hot(
    sa.select(sa.func.count().label("many")).where(things.c.good == sa.true(), things.c.tenant_id == "a")
)
ADD = Hot(sa.insert(things))
CHANGE = Hot(sa.update(things).where(things.c.thing_id == sa.bindparam("thing")))
REMOVE = Hot(sa.delete(things).where(things.c.at < sa.bindparam("before")))
AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
ROW = {
    "tenant_id": "a",
    "thing_id": "1",
    "facts": {"b": [1, "x"]},
    "good": True,
    "at": AT,
    "raw": b"\0",
    "score": 0.5,
}


@pytest.fixture(params=["through the driver", "through SQLAlchemy"])
async def db(request, tmp_path):
    seen = []

    def listen(conn, cursor, statement, parameters, context, many):
        seen.append(statement)

    if request.param == "through SQLAlchemy":
        sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    async with await Database.open(f"sqlite:///{tmp_path}/hot.db", METADATA) as database:
        yield database
    if request.param == "through SQLAlchemy":
        sa.event.remove(sa.Engine, "before_cursor_execute", listen)
        assert any("things" in statement for statement in seen)


async def test_rows_come_back_as_they_went_in(db):
    assert await db.write(lambda conn: ADD.run(conn, ROW)) == 1
    key = {"tenant": "a", "thing": "1"}
    assert await db.read(lambda conn: ONE.first(conn, key)) == ROW
    assert await db.read(lambda conn: ONE.all(conn, key)) == [ROW]
    assert await db.read(lambda conn: ONE.first(conn, {**key, "thing": "2"})) is None
    plain = await db.read(lambda conn: conn.execute(sa.select(things)).mappings().one())
    assert dict(plain) == ROW


async def test_a_list_may_have_any_length(db):
    def work(conn):
        for name in "1234":
            ADD.run(conn, {**ROW, "thing_id": name})
        return [
            [row["thing_id"] for row in SOME.all(conn, {"tenant": "a", "things": names})]
            for names in ([], ["2"], ["1", "3"], ["4", "9"], list("1234"))
        ]

    assert await db.write(work) == [[], ["2"], ["1", "3"], ["4"], list("1234")]


async def test_what_stands_in_the_statement_counts(db):
    await db.write(lambda conn: [ADD.run(conn, {**ROW, "thing_id": n, "good": n != "2"}) for n in "123"])
    assert await db.read(lambda conn: GOOD.first(conn, {})) == {"many": 2}


async def test_the_columns_set_are_those_that_are_named(db):
    await db.write(lambda conn: ADD.run(conn, ROW))
    later = AT.replace(year=2027)
    assert await db.write(lambda conn: CHANGE.run(conn, {"thing": "1", "at": later})) == 1
    assert await db.write(lambda conn: CHANGE.run(conn, {"thing": "1", "good": False, "facts": {}})) == 1
    assert await db.write(lambda conn: CHANGE.run(conn, {"thing": "2", "at": None})) == 0
    row = await db.read(lambda conn: ONE.first(conn, {"tenant": "a", "thing": "1"}))
    assert row == {**ROW, "at": later, "good": False, "facts": {}}
    assert await db.write(lambda conn: REMOVE.run(conn, {"before": AT})) == 0
    assert await db.write(lambda conn: REMOVE.run(conn, {"before": later.replace(year=2028)})) == 1


async def test_errors_are_the_stores_and_undo_the_callback(db):
    await db.write(lambda conn: ADD.run(conn, ROW))

    def add_then(values):
        def work(conn):
            ADD.run(conn, {**ROW, "thing_id": "kept?"})
            ADD.run(conn, {**ROW, **values})

        return work

    with pytest.raises(Conflict):
        await db.write(add_then({}))
    for wrong in (
        {"thing_id": "\ud800"},
        {"at": "now"},
        {"facts": float("nan")},
        {"good": None, "thing_id": "2"},
    ):
        with pytest.raises(InvalidValue):
            await db.write(add_then(wrong))
    found = await db.read(lambda conn: conn.execute(sa.select(things.c.thing_id)).scalars().all())
    assert found == ["1"]


async def test_a_row_that_was_read_first_holds_nothing_open(db):
    await db.write(lambda conn: [ADD.run(conn, {**ROW, "thing_id": n}) for n in "12"])

    def work(conn):
        first = Hot(sa.select(things)).first(conn, {})
        conn.exec_driver_sql("DROP TABLE things")  # SQLite refuses while a statement reads it
        return first["thing_id"]

    assert await db.write(work) == "1"
