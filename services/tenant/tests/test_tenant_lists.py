"""ListCalls and ListLeads over gRPC: filters, order, pages that stay right under writes, indexes that serve them."""

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from trunkline.common.v1 import labels_pb2, provider_pb2
from trunkline.tenant.v1 import call_service_pb2, lead_service_pb2
from trunkline_tenant.calls import service as calls_module

from .tenant_conformance import on_one_engine

CALLS = {
    "a": {"spam": True, "intent": labels_pb2.INTENT_ROBOCALL, "sentiment": labels_pb2.SENTIMENT_NEUTRAL},
    "b": {
        "intent": labels_pb2.INTENT_QUOTE_REQUEST, "sentiment": labels_pb2.SENTIMENT_POSITIVE,
        "lead_level": labels_pb2.LEAD_LEVEL_HIGH, "lead_score": 90, "caller_number": "+12148654559",
        "kind": provider_pb2.CONVERSATION_KIND_CALL, "source": "tenants/acme/sources/s1",
        "outcome": labels_pb2.CALL_OUTCOME_BOOKED,
    },
    "c": {
        "intent": labels_pb2.INTENT_COMPLAINT, "sentiment": labels_pb2.SENTIMENT_NEGATIVE, "lead_score": 10,
        "kind": provider_pb2.CONVERSATION_KIND_TEXT_MESSAGE, "provider": provider_pb2.PROVIDER_TWILIO,
        "caller_number": "(404) 555-8514", "source": "tenants/acme/sources/s2",
    },
}  # fmt: skip


@pytest.fixture
async def filled(suite):
    for at, (name, facts) in enumerate(CALLS.items(), 1):
        await suite.record(
            f"e-{name}", 100 + at, provider_call_id=name, start_time=Timestamp(seconds=at * 3600), **facts
        )
    return suite


async def listed(suite, parent="tenants/acme", **fields):
    request = call_service_pb2.ListCallsRequest(parent=parent, **fields)
    return [call.provider_call_id for call in (await suite.operator.ListCalls(request)).calls]


FILTERS = {
    "": "cba",
    "spam = true": "a",
    "spam = false": "cb",
    "intent = quote_request": "b",
    "intent = INTENT_QUOTE_REQUEST": "b",
    "intent = Quote_Request": "b",
    "intent != quote_request": "ca",
    "sentiment = negative": "c",
    "lead_level = high": "b",
    "outcome = booked": "b",
    "lead_score >= 10 AND lead_score < 90": "c",
    "kind = call": "b",
    "kind = CONVERSATION_KIND_TEXT_MESSAGE": "c",
    "provider = twilio": "c",
    "source = s1": "b",
    'source = "tenants/acme/sources/s2"': "c",
    'caller_number = "+12148654559"': "b",
    'caller_number = "404-555-8514"': "c",
    'start_time >= "1970-01-01T02:00:00Z"': "cb",
    'start_time > "1970-01-01T02:00:00Z" AND spam = false': "c",
    "start_time < 1970-01-01T04:30:00+02:00": "ba",
    "spam = false AND intent = complaint AND sentiment = positive": "",
}
"""filter -> the calls that it keeps, the latest first."""


async def test_a_filter_keeps_what_it_says(filled):
    assert {text: "".join(await listed(filled, filter=text)) for text in FILTERS} == FILTERS


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("intent = lunch", "quote_request"),
        ("colour = red", "lead_score"),
        ("spam = maybe", "true or false"),
        ("spam > true", "spam"),
        ("start_time > yesterday", "RFC 3339"),
        ("lead_score = high", "lead_score"),
        ("spam = true OR spam = false", "AND"),
    ],
)
@on_one_engine
async def test_a_wrong_filter_says_what_is_allowed(suite, raised, text, named):
    request = call_service_pb2.ListCallsRequest(parent="tenants/acme", filter=text)
    error = await raised(suite.operator.ListCalls(request))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.violations[0][0] == "filter"
    assert named in error.message


async def test_calls_come_latest_first_or_as_asked(filled):
    assert await listed(filled, order_by="start_time desc") == ["c", "b", "a"]
    assert await listed(filled, order_by="start_time") == ["a", "b", "c"]
    assert await listed(filled, order_by="start_time asc") == ["a", "b", "c"]


async def test_a_call_without_a_start_is_listed_by_its_first_event(filled):
    await filled.record("late", 9000, provider_call_id="d")
    assert (await listed(filled))[1] == "d"
    await filled.record("early", 8000, provider_call_id="d")
    await filled.record("begun", 9999, provider_call_id="d", start_time=Timestamp(seconds=1))
    assert (await listed(filled))[-1] == "d"


@pytest.mark.parametrize("order", ["", "start_time"])
async def test_pages_cover_everything_once_while_others_write(suite, order):
    """Calls at the same moment, and newer and older ones written between pages."""
    for number in range(9):
        await suite.record(
            f"e{number}", 1, provider_call_id=f"n{number}", start_time=Timestamp(seconds=100 + number // 3)
        )
    seen, token, pages = [], "", 0
    while True:
        page = await suite.operator.ListCalls(
            call_service_pb2.ListCallsRequest(
                parent="tenants/acme", page_size=2, page_token=token, order_by=order, filter="spam = false"
            )
        )
        seen += [call.provider_call_id for call in page.calls]
        pages += 1
        at = 10 if order else 10_000  # before what was shown already
        await suite.record(f"w{pages}", 1, provider_call_id=f"w{pages}", start_time=Timestamp(seconds=at))
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == len(set(seen)) == 9
    assert pages == 5


async def test_a_token_belongs_to_its_question(filled, raised):
    request = call_service_pb2.ListCallsRequest(parent="tenants/acme", page_size=1)
    token = (await filled.operator.ListCalls(request)).next_page_token
    assert token
    for change in ({"filter": "spam = false"}, {"order_by": "start_time"}, {"parent": "tenants/other"}):
        other = call_service_pb2.ListCallsRequest(
            **{"parent": "tenants/acme", "page_size": 1, "page_token": token, **change}
        )
        assert (await raised(filled.operator.ListCalls(other))).violations[0][0] == "page_token"
    request.page_token = "nonsense"
    assert (await raised(filled.operator.ListCalls(request))).violations[0][0] == "page_token"


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("", "calls_by_start"),
        ("spam = true", "calls_by_spam"),
        ("intent = complaint", "calls_by_intent"),
        ("sentiment = negative", "calls_by_sentiment"),
        ("lead_level = high", "calls_by_lead_level"),
        ("outcome = booked", "calls_by_outcome"),
        ("source = s1", "calls_by_source"),
        ("caller_number = 5551234", "calls_by_caller"),
        ("lead_score > 50", "calls_by_start"),
        ("kind = call", "calls_by_start"),
        ("state = failed", "calls_by_state"),
        ('update_time > "2026-11-01T00:00:00Z" by update_time', "calls_by_update"),
    ],
)
async def test_an_index_serves_each_filter_in_order(suite, text, index):
    text, _, order = text.partition(" by ")
    request = call_service_pb2.ListCallsRequest(parent="tenants/acme", filter=text, order_by=order)

    def explain(conn):
        query = calls_module.page_of(request).query()
        compiled = query.compile(conn, compile_kwargs={"literal_binds": True})
        return [row[3] for row in conn.execute(sa.text(f"EXPLAIN QUERY PLAN {compiled}"))]

    plan = await suite.app.db.read(explain)
    assert len(plan) == 1, plan
    assert index in plan[0]


async def test_leads_come_latest_caller_first_with_filters_and_pages(suite):
    for number, level in enumerate(
        [labels_pb2.LEAD_LEVEL_LOW, labels_pb2.LEAD_LEVEL_HIGH, labels_pb2.LEAD_LEVEL_HIGH]
    ):
        await suite.record(
            f"e{number}", 1, provider_call_id=f"n{number}", caller_number=f"+1214865455{number}",
            lead_level=level, lead_score=30 * number, start_time=Timestamp(seconds=100 + number),
        )  # fmt: skip

    async def numbers(**fields):
        request = lead_service_pb2.ListLeadsRequest(parent="tenants/acme", **fields)
        answer = await suite.operator.ListLeads(request)
        return [int(lead.phone_number[-1]) for lead in answer.leads], answer.next_page_token

    assert (await numbers())[0] == [2, 1, 0]
    assert (await numbers(filter="lead_level = high"))[0] == [2, 1]
    assert (await numbers(filter="lead_score <= 30"))[0] == [1, 0]
    assert (await numbers(filter='phone_number = "+1 (214) 865-4551"'))[0] == [1]
    assert (await numbers(filter='last_call_time < "1970-01-01T00:01:41Z"'))[0] == [0]
    first, token = await numbers(page_size=2)
    assert (first, (await numbers(page_size=2, page_token=token))) == ([2, 1], ([0], ""))


async def test_leads_and_calls_are_shown_by_name_or_not_found(suite, raised):
    call = await suite.record("e1", 1, caller_number="+12148654559")
    lead = await suite.operator.GetLead(lead_service_pb2.GetLeadRequest(name=call.lead))
    assert lead.last_call == call.name
    for name, method, message in (
        ("tenants/acme/leads/nobody", "GetLead", lead_service_pb2.GetLeadRequest),
        ("tenants/acme/calls/nothing", "GetCall", call_service_pb2.GetCallRequest),
    ):
        error = await raised(getattr(suite.operator, method)(message(name=name)))
        assert error.code is grpc.StatusCode.NOT_FOUND


async def test_a_key_lists_its_own_tenant_only(filled, raised):
    await filled.tenant("other")
    await filled.record("o1", 1, tenant="other", caller_number="+12148654559")
    key = filled.key((await filled.api_key("other")).key)
    mine = await key.ListCalls(call_service_pb2.ListCallsRequest(parent="tenants/other"))
    assert [call.provider_call_id for call in mine.calls] == ["CAL1"]
    foreign = await filled.record("ex", 1, provider_call_id="a")
    for call in (
        key.ListCalls(call_service_pb2.ListCallsRequest(parent="tenants/acme")),
        key.ListLeads(lead_service_pb2.ListLeadsRequest(parent="tenants/acme")),
        key.GetCall(call_service_pb2.GetCallRequest(name=foreign.name)),
    ):
        assert (await raised(call)).code is grpc.StatusCode.NOT_FOUND
