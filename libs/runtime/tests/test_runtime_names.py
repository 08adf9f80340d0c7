"""Resource names, page tokens and filters: what is made is understood again, and what is wrong is named."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.api import filters, paging, resources, times
from trunkline_runtime.api.filters import Condition, FieldType
from trunkline_runtime.errors import InvalidArgument

IDS = st.from_regex(r"[a-z0-9-]{2,40}", fullmatch=True)
CALL = "tenants/{tenant}/calls/{call}"


@given(IDS, IDS)
def test_a_name_that_was_formatted_parses(tenant: str, call: str) -> None:
    name = resources.format(CALL, tenant=tenant, call=call)
    assert resources.parse(CALL, name) == {"tenant": tenant, "call": call}
    assert resources.tenant_of(name) == tenant


@pytest.mark.parametrize(
    "name",
    [
        "",
        "tenants/acme",
        "tenants/acme/calls/",
        "tenants/ACME/calls/abc",
        "tenants/acme/calls/abc/more",
        "/tenants/acme/calls/abc",
        "tenants/acme/calls/abc\n",
        "tenants/a/calls/abc",
        f"tenants/acme/calls/{'x' * 41}",
        "tenants/-/calls/abc",
    ],
)
def test_what_is_no_name_of_a_call_is_said_so(name: str) -> None:
    with pytest.raises(InvalidArgument, match="call_name") as error:
        resources.parse(CALL, name, field="call_name")
    assert error.value.violations[0][0] == "call_name"


def test_the_wildcard_is_for_those_who_ask_for_it() -> None:
    assert resources.parse(CALL, "tenants/-/calls/abc", wildcard=True)["tenant"] == "-"
    assert resources.tenant_of("tenants/-") == "-"
    for name in ("tenants", "tenants/", "calls/abc", "tenants/acme/", "tenants/acme/ x", ""):
        with pytest.raises(InvalidArgument):
            resources.tenant_of(name)


def test_what_cannot_be_an_id_is_not_formatted() -> None:
    with pytest.raises(InvalidArgument):
        resources.format(CALL, tenant="acme/calls", call="abc")


def test_new_ids_are_ids_and_differ() -> None:
    ids = {resources.new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(resources.is_id(i) and len(i) == 22 for i in ids)


KEYS = st.lists(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**60), 2**60),
        st.text(max_size=40),
        st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    ),
    max_size=4,
)


@given(KEYS, st.text(max_size=30))
def test_a_page_token_gives_its_key_back(key: list[paging.Key], filter_text: str) -> None:
    digest = paging.digest_of_request("tenants/acme", filter_text)
    assert paging.decode(paging.encode(key, digest), digest, [type(v) for v in key]) == tuple(key)


def test_no_token_is_the_first_page() -> None:
    assert paging.decode("", "digest", (str,)) is None


def test_a_token_of_another_question_is_refused() -> None:
    token = paging.encode(["a"], paging.digest_of_request("tenants/acme", "spam = true"))
    with pytest.raises(InvalidArgument, match="page_token: belongs to another"):
        paging.decode(token, paging.digest_of_request("tenants/acme", "spam = false"), (str,))


@given(st.text(max_size=60))
def test_any_other_text_is_refused_as_a_token(text: str) -> None:
    if text:
        with pytest.raises(InvalidArgument):
            paging.decode(text, "digest", (str,))


@pytest.mark.parametrize(
    "values", ["[1]", '{"a":1}', '["d",{"a":1}]', '["d",5]', '["d",[[1]]]', '["d",[{"t":1e400}]]', "[" * 5000]
)
def test_json_that_is_no_key_is_refused(values: str) -> None:
    import base64

    with pytest.raises(InvalidArgument):
        paging.decode(base64.urlsafe_b64encode(values.encode()).decode().rstrip("="), "d", (datetime,))


def test_a_key_of_other_types_is_refused() -> None:
    token = paging.encode(["2026", "abc"], "d")
    assert paging.decode(token, "d", kinds=[str, str]) == ("2026", "abc")
    for kinds in ([datetime, str], [str], [str, str, str]):
        with pytest.raises(InvalidArgument):
            paging.decode(token, "d", kinds=kinds)


def test_page_sizes() -> None:
    assert [paging.page_size(n) for n in (0, 1, 500, 10_000)] == [50, 1, 500, 500]
    with pytest.raises(InvalidArgument, match="page_size"):
        paging.page_size(-1)


def test_a_place_holds_the_size_and_finds_its_key_only_for_the_same_question() -> None:
    asked = call_service_pb2.ListCallsRequest(page_size=7)
    place = paging.place_of(asked, "ListCalls", "acme", "spam = true")
    assert (place.size, place.after((str,))) == (7, None)
    asked.page_token = place.next(["abc"])
    assert paging.place_of(asked, "ListCalls", "acme", "spam = true").after((str,)) == ("abc",)
    with pytest.raises(InvalidArgument, match="page_token"):
        paging.place_of(asked, "ListCalls", "acme", "spam = false").after((str,))


FIELDS = {
    "spam": FieldType.BOOLEAN,
    "intent": FieldType.choice("quote_request", "support"),
    "lead_score": FieldType.INTEGER,
    "confidence": FieldType.NUMBER,
    "caller_number": FieldType.STRING,
    "start_time": FieldType.TIMESTAMP,
}


def test_a_list_is_asked_whether_it_has_a_text() -> None:
    fields = {**FIELDS, "labels": FieldType.LIST}
    assert filters.parse('labels:"a \\"b:" AND labels:c:d AND caller_number=labels:x', fields) == [
        Condition("labels", ":", 'a "b:'),
        Condition("labels", ":", "c:d"),
        Condition("caller_number", "=", "labels:x"),
    ]
    for wrong in ("labels = a", "labels:", "caller_number:a", "labels"):
        with pytest.raises(InvalidArgument):
            filters.parse(wrong, fields)


def test_a_filter_is_understood() -> None:
    text = (
        "spam=false AND intent != quote_request AND lead_score>=70 AND confidence < 0.5 "
        'AND caller_number = "+1 \\"x\\" AND y" AND start_time >= "2026-11-01T01:00:00+01:00"'
    )
    assert filters.parse(text, FIELDS) == [
        Condition("spam", "=", False),
        Condition("intent", "!=", "quote_request"),
        Condition("lead_score", ">=", 70),
        Condition("confidence", "<", 0.5),
        Condition("caller_number", "=", '+1 "x" AND y'),
        Condition("start_time", ">=", datetime(2026, 11, 1, tzinfo=UTC)),
    ]


def test_no_filter_has_no_conditions() -> None:
    assert filters.parse("", FIELDS) == filters.parse("   ", FIELDS) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "colour = red",
            "unknown field 'colour'; allowed: caller_number, confidence, intent, lead_score, spam, start_time",
        ),
        ("intent = sales", "intent cannot be 'sales'; allowed: one of quote_request, support"),
        ("spam = maybe", "spam cannot be 'maybe'; allowed: true or false"),
        ("spam > true", "spam cannot be compared with >; allowed: = !="),
        ("lead_score = 1.5", "lead_score cannot be '1.5'; allowed: a whole number"),
        ("confidence = inf", "confidence cannot be 'inf'"),
        ("start_time > 2026-11-01", "start_time cannot be '2026-11-01'; allowed: an RFC 3339 time"),
        ("start_time > 2026-11-01T00:00:00", "start_time cannot be"),
        ("spam", "spam needs an operator (= !=) and a value (true or false)"),
        ("spam =", "spam needs an operator"),
        ("spam = true AND", "ends with AND"),
        ("AND spam = true", "AND is not valid in a filter"),
        ("spam = true OR spam = false", "expected AND before 'OR'"),
        ("NOT spam = true", "NOT is not valid in a filter"),
        ("(spam = true)", "cannot be read from character 1"),
        ('caller_number = "open', "cannot be read from character 17"),
        ('"spam" = true', "expected a field before 'spam'"),
        (" AND ".join(["spam = true"] * 21), "more than 20 conditions"),
    ],
)
def test_a_filter_that_is_wrong_says_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        filters.parse(text, FIELDS)
    field, message = error.value.violations[0]
    assert field == "filter"
    assert said in message


@given(st.text(max_size=80))
def test_any_text_is_a_filter_or_a_domain_error(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        assert all(c.field in FIELDS for c in filters.parse(text, FIELDS))


@given(
    st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=30),
    st.datetimes(
        datetime(1970, 1, 2),
        datetime(2100, 1, 1),
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5))]),
    ),
)
def test_quoted_values_come_back_whole(text: str, when: datetime) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    conditions = filters.parse(f'caller_number = "{quoted}" AND start_time <= "{when.isoformat()}"', FIELDS)
    assert [c.value for c in conditions] == [text, when]


@pytest.mark.parametrize(
    "key",
    [
        '["a","b"]',
        "[1,2]",
        '["a"]',
        "[]",
        '[{"t":1},"\\ud800"]',
        '[{"t":1},5]',
        '[null,"b"]',
        '[{"x":1},"b"]',
    ],
)
def test_a_token_of_the_wrong_shape_is_no_token(key: str) -> None:
    """It once became an internal error with a traceback, further down."""
    import base64

    token = base64.urlsafe_b64encode(f'["d",{key}]'.encode()).decode().rstrip("=")
    with pytest.raises(InvalidArgument, match="page_token"):
        paging.decode(token, "d", (datetime, str))


@pytest.mark.parametrize("number", [10**30, -(10**30)])
def test_a_number_that_no_store_takes_is_no_number(number: int) -> None:
    with pytest.raises(InvalidArgument, match="page_token"):
        paging.decode(paging.encode([number], "d"), "d", (int,))
    with pytest.raises(InvalidArgument, match="lead_score"):
        filters.parse(f"lead_score > {number}", FIELDS)


def test_what_is_far_too_long_is_refused_before_it_is_read() -> None:
    huge = "a" * (32 << 20)
    tenant, below, call = (f"tenants/{parent}{huge}" for parent in ("", "acme/", "acme/calls/"))
    began = time.thread_time()
    with pytest.raises(InvalidArgument, match="page_token"):
        paging.decode(huge, "d", (str,))
    with pytest.raises(InvalidArgument, match="filter"):
        filters.parse(huge, FIELDS)
    with pytest.raises(InvalidArgument):
        resources.tenant_of(tenant)
    with pytest.raises(InvalidArgument):
        resources.tenant_of(below)
    with pytest.raises(InvalidArgument):
        resources.parse(CALL, call)
    assert not resources.is_id(huge)
    assert time.thread_time() - began < 0.2  # of the processor, however busy the machine is


def test_a_time_that_a_request_leaves_out_is_none() -> None:
    call = call_pb2.Call()
    assert times.given_time(call, "start_time") is None
    call.start_time.FromDatetime(datetime(2026, 11, 20, tzinfo=UTC))
    assert times.given_time(call, "start_time") == datetime(2026, 11, 20, tzinfo=UTC)
