"""Pages by key, on SQLite, whose row values say what is right."""

import itertools

import pytest
import sqlalchemy as sa
from trunkline_store.records.keyset import Page, behind

TABLE = sa.Table(
    "t",
    sa.MetaData(),
    *(sa.Column(name, sa.Integer) for name in ("a", "b", "c")),
    sa.Index("t_by", "a", "b", "c"),
)
ROWS = list(itertools.product(range(3), repeat=3))


@pytest.fixture
def conn():
    engine = sa.create_engine("sqlite://")
    with engine.connect() as conn:
        TABLE.metadata.create_all(conn)
        conn.execute(TABLE.insert(), [dict(zip("abc", row, strict=True)) for row in ROWS])
        yield conn


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("descending", [False, True])
def test_it_is_what_row_values_say(conn, columns, descending):
    key = [TABLE.c.a, TABLE.c.b, TABLE.c.c][:columns]
    for last in itertools.product(range(3), repeat=columns):
        query = sa.select(TABLE).where(behind(key, last, descending=descending))
        found = sorted(tuple(row) for row in conn.execute(query))
        assert found == [
            row for row in ROWS if (row[:columns] < last if descending else row[:columns] > last)
        ]


def test_an_index_finds_where_a_page_begins(conn):
    query = sa.select(TABLE.c.a).where(behind([TABLE.c.a, TABLE.c.b], (1, 1), descending=False))
    text = str(query.compile(conn.engine, compile_kwargs={"literal_binds": True}))
    plan = " ".join(row[3] for row in conn.exec_driver_sql("EXPLAIN QUERY PLAN " + text))
    assert "a>" in plan, plan


class Third:
    """A place two rows long, whose tokens are keys as text."""

    size = 2

    def __init__(self, token=""):
        self.token = token

    def after(self, kinds):
        return tuple(map(int, self.token.split())) if self.token else None

    def next(self, key):
        return " ".join(map(str, key))


@pytest.mark.parametrize("descending", [False, True])
def test_pages_in_turn_show_each_row_once_and_the_last_has_no_token(conn, descending):
    key = [TABLE.c.a, TABLE.c.b, TABLE.c.c]
    seen, place = [], Third()
    for _ in range(14):
        rows, token = Page(sa.select(TABLE), key, place, descending).fetch(conn)
        seen.append([tuple(row) for row in rows])
        place = Third(token)
    assert not token
    assert [len(page) for page in seen] == [2] * 13 + [1]
    assert [row for page in seen for row in page] == sorted(ROWS, reverse=descending)
