"""A tenant that lists at the top of its lungs: keys of others are told apart, and their calls shown, as ever."""

import asyncio
import sqlite3

import grpc
from trunkline.common.v1 import labels_pb2
from trunkline.tenant.v1 import api_key_service_pb2, call_service_pb2
from trunkline_runtime.errors import DeadlineExceeded, from_rpc_error

from .conftest import make_config, running
from .tenant_conformance import on_one_engine

ROWS = 100_000
# Every row is looked at, and none fits: the page is never full.
FILTER = "intent != billing AND lead_score > 100"


def copied(path, rows):
    """Make many calls of the one that is there."""
    with sqlite3.connect(path) as conn:
        names = [row[1] for row in conn.execute("PRAGMA table_info(calls)")]
        shown = ", ".join(
            "printf('%s-%d', call_id, i)" if name == "call_id" else f'"{name}"' for name in names
        )
        conn.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
            f"INSERT INTO calls SELECT {shown} FROM calls, n"
        )


@on_one_engine
async def test_keys_are_told_apart_while_another_tenant_floods_the_lists(suite):
    await suite.tenant("quiet")
    flooding, quiet = await suite.api_key("acme"), await suite.api_key("quiet")
    await suite.record("e1", 100, intent=labels_pb2.INTENT_COMPLAINT, lead_score=1)
    call = await suite.record("e1", 100, tenant="quiet")
    await asyncio.to_thread(copied, suite.app.db.path, ROWS)
    request = call_service_pb2.ListCallsRequest(parent="tenants/acme", filter=FILTER)

    answered = 0
    refused = []

    async def flood():
        nonlocal answered
        while True:
            try:
                await suite.key(flooding.key).ListCalls(request, timeout=60)
                answered += 1
            except grpc.aio.AioRpcError as error:
                refused.append(from_rpc_error(error))
                await asyncio.sleep(0.05)

    floods = [asyncio.create_task(flood()) for _ in range(60)]
    async with asyncio.timeout(30):
        while not refused or not answered:
            await asyncio.sleep(0.01)
    before, asked = answered, 0
    async with asyncio.timeout(60):
        for _ in range(12):
            who = await suite.gateway.Authenticate(
                api_key_service_pb2.AuthenticateRequest(token=quiet.key), timeout=5
            )
            assert who.tenant == "tenants/quiet"
            assert await suite.key(quiet.key).GetCall(
                call_service_pb2.GetCallRequest(name=call.name), timeout=5
            )
            await suite.app.db.check()
            asked += 3
    # A line of 60 lists before each answer would be 720; two threads of one tenant finish far fewer meanwhile.
    assert answered - before < asked
    for task in floods:
        task.cancel()
    await asyncio.gather(*floods, return_exceptions=True)
    assert {error.reason for error in refused} == {"LISTS_AT_ONCE"}


@on_one_engine
async def test_a_list_that_takes_too_long_says_what_to_narrow(store_url, raised):
    async with running(make_config(store_url, list_seconds=0.001)) as suite:
        await suite.tenant()
        call = await suite.record("e1", 100, intent=labels_pb2.INTENT_COMPLAINT, lead_score=1)
        await asyncio.to_thread(copied, suite.app.db.path, ROWS)
        request = call_service_pb2.ListCallsRequest(parent="tenants/acme", filter=FILTER)
        error = await raised(suite.operator.ListCalls(request, timeout=60))
        assert (type(error), error.reason) == (DeadlineExceeded, "LIST_TOO_SLOW")
        assert "filter" in error.message
        assert (await suite.get_call(call.name)).lead_score == 1
