"""Parts of the Spanner engine that need no Spanner."""

import itertools
import subprocess
import sys
from datetime import UTC, datetime

import grpc
import pytest
import sqlalchemy as sa
from trunkline_store import InvalidValue, StoreUnsupported
from trunkline_store.spanner.address import parse_address
from trunkline_store.spanner.values import to_value

URL = "spanner+spanner:///projects/p/instances/i/databases/d"


def test_an_address_and_its_settings_stand_in_the_url(monkeypatch):
    monkeypatch.delenv("SPANNER_EMULATOR_HOST", raising=False)
    plain = parse_address(sa.make_url(URL))
    assert (plain.name, plain.emulator) == ("projects/p/instances/i/databases/d", None)
    assert (plain.writers, plain.deadline_seconds) == (8, 15.0)
    told = parse_address(sa.make_url(f"{URL}?writers=16&deadline_seconds=2.5&appends=2&commit_delay_ms=30"))
    assert (told.writers, told.deadline_seconds, told.appends, told.commit_delay_ms) == (16, 2.5, 2, 30)


def test_the_channel_to_spanner_gives_up_what_nobody_takes_as_the_emulators_does(monkeypatch):
    pytest.importorskip("google.cloud.spanner_v1")
    from google.api_core import grpc_helpers
    from google.auth.credentials import AnonymousCredentials
    from trunkline_store.spanner.client import Client

    made = []

    def create_channel(host, **settings):
        made.append((host, dict(settings["options"])))
        return grpc.insecure_channel("127.0.0.1:1")

    monkeypatch.delenv("SPANNER_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(grpc_helpers, "create_channel", create_channel)
    monkeypatch.setattr("google.auth.default", lambda *_, **__: (AnonymousCredentials(), "p"))
    Client(parse_address(sa.make_url(URL))).close()
    [(host, options)] = made
    assert host == "spanner.googleapis.com:443"
    assert options["grpc.keepalive_timeout_ms"] == 5_000
    assert options["grpc.keepalive_time_ms"] >= 60_000, "Google refuses clients that ping often"
    assert options["grpc.max_receive_message_length"] == -1


def test_the_emulator_gets_one_transaction_at_a_time(monkeypatch):
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", "127.0.0.1:9010")
    address = parse_address(sa.make_url(URL))
    assert (address.emulator, address.writers, address.appends) == ("127.0.0.1:9010", 1, 1)
    assert parse_address(sa.make_url(f"{URL}?writers=3")).writers == 3


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("spanner+spanner:///projects/p", "projects/PROJECT"),
        ("spanner+spanner://host/projects/p/instances/i/databases/d", "projects/PROJECT"),
        (f"{URL}?pool=9", "pool is not one of writers"),
        (f"{URL}?writers=0", "from 1 to 256"),
        (f"{URL}?writers=1.5", "from 1 to 256"),
        (f"{URL}?deadline_seconds=soon", "from 0.1"),
        (f"{URL}?writers=2&writers=3", "from 1 to 256"),
    ],
)
def test_a_url_that_does_not_fit_says_what_would(url, told):
    with pytest.raises(StoreUnsupported, match=told):
        parse_address(sa.make_url(url))


def test_an_embedded_run_loads_nothing_of_google_cloud(tmp_path):
    script = f"""
import asyncio, sys
from trunkline_store import Database
from trunkline_store.testing.conformance import ENTRIES, METADATA, thing, add, ids
import trunkline_store.spanner
async def main():
    async with await Database.open("sqlite:///{tmp_path}/x.db", METADATA) as db:
        await db.write(add(**thing("one")))
        await db.appender(ENTRIES).append(("row", None, None))
        await db.read(ids)
asyncio.run(main())
# An installed package may make the empty namespace google.cloud at every start.
loaded = [name for name, module in sys.modules.items() if getattr(module, "__file__", None)]
print([name for name in loaded if name.startswith(("google", "grpc"))])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_values_go_over_the_wire_and_back():
    pytest.importorskip("google.protobuf")
    from types import SimpleNamespace

    from trunkline_store.spanner.values import TypeCode, decoder, to_value, type_of

    moment = datetime(2026, 3, 29, 1, 59, 59, 120, tzinfo=UTC)
    for value in ("é", True, 0, -(1 << 63), 1.5, float("inf"), b"\0\xff", moment, None):
        code = type_of(value) or TypeCode.STRING
        assert decoder(SimpleNamespace(code=code))(to_value(value)) == value
    nan = to_value(float("nan"))
    assert decoder(SimpleNamespace(code=TypeCode.FLOAT64))(nan) != decoder(
        SimpleNamespace(code=TypeCode.FLOAT64)
    )(nan)
    array = SimpleNamespace(code=TypeCode.ARRAY, array_element_type=SimpleNamespace(code=TypeCode.INT64))
    assert decoder(array)(to_value([1, None, 2])) == [1, None, 2]
    for bad in (1 << 63, "\ud800", datetime(2026, 1, 1), {"a": 1}):
        with pytest.raises(InvalidValue):
            to_value(bad)


def test_errors_are_told_in_the_stores_own():
    api = pytest.importorskip("google.api_core.exceptions")
    from trunkline_store import Conflict, StoreError, StoreUnavailable
    from trunkline_store.spanner.errors import (
        DatabaseMissing,
        OutOfTime,
        TransactionLost,
        translate,
        worth_repeating,
    )

    rows = [
        (api.Aborted("wound"), TransactionLost, True),
        (api.NotFound("Session not found: x"), TransactionLost, True),
        (api.NotFound("Database not found: x"), DatabaseMissing, False),
        (api.NotFound("Parent row for row [x] in table y is missing"), InvalidValue, False),
        (api.AlreadyExists("row"), Conflict, False),
        (api.OutOfRange("Check constraint"), InvalidValue, False),
        (api.FailedPrecondition("Cannot specify a null value for column: a"), InvalidValue, False),
        (api.FailedPrecondition("This transaction was closed"), StoreError, False),
        (api.InvalidArgument("Syntax error"), StoreError, False),
        (api.DeadlineExceeded("late"), OutOfTime, False),
        (api.ServiceUnavailable("gone"), StoreUnavailable, True),
        (api.InternalServerError("RST_STREAM"), StoreUnavailable, True),
        (api.ResourceExhausted("quota"), StoreUnavailable, True),
        (api.PermissionDenied("no"), StoreError, False),
    ]
    for raised, kind, again in rows:
        error = translate(raised)
        assert type(error) is kind, raised
        assert worth_repeating(error) is again
    assert isinstance(OutOfTime("x"), StoreUnavailable)
    own = ValueError("mine")
    assert translate(own) is own


@pytest.mark.parametrize("cuts", [(), (1,), (3,), (1, 2, 3, 4)])
def test_rows_are_whole_however_they_were_cut_into_messages(cuts):
    types = pytest.importorskip("google.cloud.spanner_v1.types")
    from trunkline_store.spanner.answers import parts_of, result_of

    def part(values, **more):
        made = types.PartialResultSet(**more)
        types.PartialResultSet.pb(made).values.extend(values)
        return made

    kinds = [("name", types.TypeCode.STRING), ("count", types.TypeCode.INT64)]
    fields = [types.StructType.Field(name=name, type_=types.Type(code=code)) for name, code in kinds]
    metadata = types.ResultSetMetadata(
        row_type=types.StructType(fields=fields), transaction=types.Transaction(id=b"t")
    )
    values = [to_value(value) for value in ("ann", 1, None, 2)]
    bounds = [0, *cuts, len(values)]
    parts = [part(values[start:end]) for start, end in itertools.pairwise(bounds)]
    parts[0].metadata = metadata
    parts[-1].stats = types.ResultSetStats(row_count_exact=2)
    parts[-1].last = True
    unasked = part([to_value("more")])
    answer = result_of(list(parts_of([*parts, unasked])))
    assert answer.rows == [("ann", 1), (None, 2)]
    assert answer.columns == [("name", 6), ("count", 2)]
    assert (answer.changed, answer.transaction) == (2, b"t")


def test_a_value_that_was_cut_is_put_together_and_no_answer_is_no_rows():
    types = pytest.importorskip("google.cloud.spanner_v1.types")
    from trunkline_store.spanner.answers import result_of

    text = types.StructType.Field(name="text", type_=types.Type(code=types.TypeCode.STRING))
    first = types.PartialResultSet(
        metadata=types.ResultSetMetadata(row_type=types.StructType(fields=[text])), chunked_value=True
    )
    second = types.PartialResultSet(last=True)
    for made, value in ((first, "ab"), (second, "cd"), (second, "ef")):
        types.PartialResultSet.pb(made).values.append(to_value(value))
    answer = result_of([first, second])
    assert (answer.rows, answer.changed) == ([("abcd",), ("ef",)], -1)
    assert result_of([]).rows == []
