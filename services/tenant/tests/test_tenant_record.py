"""RecordCall over gRPC: one row in any order, once whatever is repeated."""

import itertools

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trunkline.common.v1 import labels_pb2, provider_pb2
from trunkline.tenant.v1 import call_service_pb2, lead_service_pb2
from trunkline_store.hot import Hot
from trunkline_tenant import ids
from trunkline_tenant.schema import calls, leads

from .conftest import record_request

PRE = {
    "event": "pre", "at": 100, "rank": 1, "caller_number": "+12148654559",
    "caller_name": "Kaylah", "start_time": Timestamp(seconds=90),
}  # fmt: skip
POST = {
    "event": "post", "at": 100, "rank": 2, "caller_name": "Kaylah Mills", "duration": Duration(seconds=13),
    "recording": "tenants/acme/recordings/r1", "lead_level": labels_pb2.LEAD_LEVEL_HIGH, "lead_score": 90,
    "intent": labels_pb2.INTENT_QUOTE_REQUEST, "aliases": ["766970532"],
}  # fmt: skip
MODIFIED = {
    "event": "modified", "at": 200, "rank": 3, "tags": ["hot", "plumbing"], "note": "call back",
    "provider_call_id": "766970532",
}  # fmt: skip


def comparable(call):
    """What must not depend on the order: all but when this machine wrote it."""
    call.ClearField("create_time")
    call.ClearField("update_time")
    return call


async def leads_of(suite, tenant="acme"):
    answer = await suite.operator.ListLeads(lead_service_pb2.ListLeadsRequest(parent=f"tenants/{tenant}"))
    for lead in answer.leads:
        lead.ClearField("create_time")
    return list(answer.leads)


async def calls_of(suite, tenant="acme", **fields):
    answer = await suite.operator.ListCalls(
        call_service_pb2.ListCallsRequest(parent=f"tenants/{tenant}", **fields)
    )
    return list(answer.calls)


async def test_events_of_a_call_make_the_same_row_in_every_order(suite):
    seen = []
    for number, order in enumerate(itertools.permutations([PRE, POST, MODIFIED])):
        tenant = f"t{number}"
        await suite.tenant(tenant)
        for said in order:
            said = {k: v.replace("acme", tenant) if k == "recording" else v for k, v in said.items()}
            suite.clock.advance(1)
            await suite.record(tenant=tenant, **said)
        calls = await calls_of(suite, tenant)
        assert len(calls) == 1
        call = comparable(await suite.get_call(calls[0].name))
        leads = await leads_of(suite, tenant)
        assert len(leads) == 1
        assert call.lead == leads[0].name
        text = f"{call}{leads}".replace(ids.call_id(tenant, 1, "ACC1", "CAL1"), "THE-CALL")
        text = text.replace(ids.lead_id(tenant, "+12148654559"), "THE-LEAD").replace(call.etag, "ETAG")
        seen.append(text.replace(tenant, "TENANT"))
    assert len(set(seen)) == 1
    assert call.caller_name == "Kaylah Mills"
    assert list(call.tags) == ["hot", "plumbing"]
    assert call.provider_call_id == "CAL1"
    assert [name.rpartition("/")[2] for name in call.events] == ["modified", "post", "pre"]


async def test_repeating_an_event_changes_nothing_at_all(suite):
    for said in (PRE, POST, MODIFIED):
        await suite.record(**said)
    call = (await calls_of(suite))[0]
    before = await suite.get_call(call.name)
    for said in (POST, PRE, MODIFIED, POST):
        suite.clock.advance(60)
        again = await suite.record(**said)
        assert again.etag == before.etag
    assert await suite.get_call(call.name) == before


async def test_the_same_event_may_state_more_and_correct_itself(suite):
    first = await suite.record("e1", 100, caller_number="+12148654559")
    suite.clock.advance(5)
    second = await suite.record("e1", 100, analysis="tenants/acme/analyses/a1", spam=True)
    assert second.spam
    assert second.analysis == "tenants/acme/analyses/a1"
    assert second.caller_number == "+12148654559"
    assert second.etag != first.etag
    assert second.update_time.seconds == first.update_time.seconds + 5
    third = await suite.record("e1", 100, mask=["spam"], spam=False)
    assert not third.spam


async def test_why_a_call_is_unreliable_and_its_language_are_shown_and_listed(suite):
    said = {"unreliable": True, "unreliable_reason": "language_not_analysed", "language": "es-MX"}
    made = await suite.record("e1", 100, **said)
    for call in (made, await suite.get_call(made.name), *(await calls_of(suite))):
        assert {name: getattr(call, name) for name in said} == said
    better = await suite.record("e2", 200, mask=["unreliable", "unreliable_reason"])
    assert (better.unreliable, better.unreliable_reason, better.language) == (False, "", "es-MX")


async def test_an_older_event_never_replaces_a_newer_value_and_a_stated_empty_one_is_kept(suite):
    await suite.record("new", 200, mask=["note", "caller_name"], caller_name="New", note="")
    call = await suite.record("old", 100, caller_name="Old", note="old note", value="5")
    assert (call.caller_name, call.note, call.value) == ("New", "", "5")


async def test_a_change_of_number_moves_the_call_and_drops_the_empty_lead(suite):
    await suite.record("e1", 100, caller_number="+12148654559")
    old = (await leads_of(suite))[0]
    call = await suite.record("e2", 200, caller_number="+14045558514")
    leads = await leads_of(suite)
    assert [lead.phone_number for lead in leads] == ["+14045558514"]
    assert call.lead == leads[0].name != old.name


async def test_spam_makes_no_lead_and_takes_an_early_one_back(suite):
    call = await suite.record("e1", 100, caller_number="+12148654559")
    assert call.lead
    call = await suite.record("e2", 200, spam=True)
    assert not call.lead
    assert await leads_of(suite) == []


@pytest.mark.parametrize("number", ["", "anonymous", "Restricted", "+266696687", "+7378742833"])
async def test_a_withheld_number_makes_no_lead(suite, number):
    call = await suite.record("e1", 100, caller_number=number)
    assert not call.lead
    assert await leads_of(suite) == []


async def test_a_lead_is_the_sum_of_its_calls_and_a_wrong_number_raises_nothing(suite):
    for index, (intent, level, score) in enumerate(
        [
            (labels_pb2.INTENT_QUOTE_REQUEST, labels_pb2.LEAD_LEVEL_LOW, 20),
            (labels_pb2.INTENT_WRONG_NUMBER, labels_pb2.LEAD_LEVEL_HIGH, 99),
            (labels_pb2.INTENT_APPOINTMENT, labels_pb2.LEAD_LEVEL_MEDIUM, 55),
        ]
    ):
        last = await suite.record(
            f"e{index}", 100 + index, provider_call_id=f"CAL{index}", caller_number="(214) 865-4559",
            intent=intent, lead_level=level, lead_score=score, start_time=Timestamp(seconds=50 + index),
            caller_name="Kaylah" if index == 0 else "",
        )  # fmt: skip
    (lead,) = await leads_of(suite)
    assert (lead.call_count, lead.lead_level, lead.lead_score) == (3, labels_pb2.LEAD_LEVEL_MEDIUM, 55)
    assert (lead.first_call_time.seconds, lead.last_call_time.seconds) == (50, 52)
    assert (lead.last_call, lead.phone_number, lead.display_name) == (last.name, "+12148654559", "Kaylah")


async def test_two_calls_that_turn_out_to_be_one_are_merged_and_old_names_still_find_it(suite):
    numeric = await suite.record("e1", 100, provider_call_id="766", note="from e1")
    lasting = await suite.record("e2", 200, provider_call_id="CAL766", caller_number="+12148654559")
    assert numeric.name != lasting.name
    merged = await suite.record("e3", 300, provider_call_id="CAL766", aliases=["766"], value="9")
    assert merged.name == lasting.name
    assert (merged.note, merged.caller_number, merged.value) == ("from e1", "+12148654559", "9")
    assert len(await calls_of(suite)) == 1
    found = await suite.get_call(numeric.name)
    assert found.name == lasting.name
    assert len(found.events) == 3
    (lead,) = await leads_of(suite)
    assert (lead.call_count, lead.last_call) == (1, merged.name)


async def test_accounts_providers_and_tenants_keep_the_same_id_apart(suite):
    await suite.tenant("other")
    names = {
        (await suite.record("e1", 1)).name,
        (await suite.record("e2", 1, provider_account="ACC2")).name,
        (await suite.record("e3", 1, provider=provider_pb2.PROVIDER_TWILIO)).name,
        (await suite.record("e4", 1, tenant="other")).name,
    }
    assert len(names) == 4


async def test_the_source_is_the_first_events(suite):
    await suite.record("e2", 200, source="tenants/acme/sources/later")
    call = await suite.record("e1", 100, source="tenants/acme/sources/first")
    assert call.source == "tenants/acme/sources/first"


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "caller_number": st.sampled_from(["+12148654559", "+14045558514", "anonymous", ""]),
        "caller_name": st.sampled_from(["", "Ann", "Bob"]),
        "spam": st.booleans(),
        "lead_score": st.integers(0, 100),
        "intent": st.sampled_from([0, 2, 12]),
        "start_time": st.integers(1, 9).map(lambda s: Timestamp(seconds=s)),
        "tags": st.lists(st.sampled_from(["a", "b"]), max_size=2),
        "source": st.sampled_from(["tenants/TENANT/sources/s1", "tenants/TENANT/sources/s2"]),
    },
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.integers(1, 4),
            "rank": st.integers(0, 2),
            "ids": st.lists(st.sampled_from(["A", "B", "C", "D"]), min_size=1, max_size=3, unique=True),
            "fields": FIELDS,
        }
    ),
    min_size=1,
    max_size=5,
)
_runs = itertools.count()


@settings(
    max_examples=settings.default.max_examples // 2,  # an example is up to a dozen calls of the service
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(events=EVENTS, data=st.data())
async def test_any_order_with_repeats_gives_the_same_rows(suite, events, data):
    """Calls, aliases, merges and leads together: a second tenant gets the events shuffled and repeated."""
    run = next(_runs)
    order = data.draw(st.permutations(range(len(events))))
    repeats = data.draw(st.lists(st.sampled_from(range(len(events))), max_size=3))
    told = []
    for tenant, sequence in ((f"p{run}", range(len(events))), (f"q{run}", [*order, *repeats])):
        await suite.tenant(tenant)
        for index in sequence:
            suite.clock.advance(1)
            event = events[index]
            fields = {
                k: v.replace("TENANT", tenant) if isinstance(v, str) else v
                for k, v in event["fields"].items()
            }
            await suite.record(
                f"e{index}", event["at"], tenant=tenant, rank=event["rank"], mask=event["fields"].keys(),
                provider_call_id=event["ids"][0], aliases=event["ids"][1:], **fields,
            )  # fmt: skip
        state = []
        for call in await calls_of(suite, tenant):
            call = comparable(await suite.get_call(call.name))
            call.etag = ""
            assert call.name.endswith(ids.call_id(tenant, 1, "ACC1", call.provider_call_id))
            call.name = ""
            if call.lead:
                call.lead = "lead"
            state.append(str(call).replace(tenant, "TENANT"))
        for lead in await leads_of(suite, tenant):
            last = (await suite.get_call(lead.last_call)).provider_call_id
            lead.name, lead.last_call = "", ""
            state.append(f"{lead} {last if lead.call_count == 1 else ''}")
        told.append(sorted(state))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"provider": 0}, "call.provider"),
        ({"provider_call_id": ""}, "call.provider_call_id"),
        ({"provider_call_id": "x" * 257}, "call.provider_call_id"),
        ({"recording": "tenants/other/recordings/r1"}, "call.recording"),
        ({"start_time": Timestamp(seconds=300_000_000_000)}, "call.start_time"),
        ({"mask": ["nonsense"]}, "field_mask"),
        ({"mask": ["lead"]}, "field_mask"),
        ({"mask": ["duration.seconds"]}, "field_mask"),
    ],
)
async def test_what_cannot_be_recorded_names_the_field(suite, raised, change, field):
    error = await raised(suite.gateway.RecordCall(record_request("e1", 100, **change)))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [name for name, _ in error.violations] == [field]
    if field == "field_mask":
        assert change["mask"][0] in error.message


async def test_an_event_of_another_tenant_is_refused(suite, raised):
    request = record_request("e1", 100)
    request.event = "tenants/other/events/e1"
    error = await raised(suite.gateway.RecordCall(request))
    assert error.violations[0][0] == "event"


async def test_an_unknown_tenant_is_not_found(suite, raised):
    error = await raised(suite.gateway.RecordCall(record_request("e1", 100, tenant="nobody")))
    assert error.code is grpc.StatusCode.NOT_FOUND


async def test_only_the_gateway_records(suite, raised):
    key = suite.key((await suite.api_key()).key)
    for caller in (suite.audio, key):
        error = await raised(caller.RecordCall(record_request("e1", 100)))
        assert error.code is grpc.StatusCode.PERMISSION_DENIED


async def test_one_person_who_is_written_in_many_ways_is_one_lead(suite):
    ways = ["+14045550100", "(404) 555-0100", "14045550100", "0014045550100", "tel:+14045550100", "404-555-0100 x12",
            "404\u2011555\u20110100"]  # fmt: skip
    for index, written in enumerate(ways):
        call = await suite.record(
            f"e{index}", 100 + index, provider_call_id=f"CAL{index}", caller_number=written
        )
        assert call.caller_number == "+14045550100"
        assert call.caller_extension == ("12" if "x12" in written else "")
    (lead,) = await leads_of(suite)
    assert (lead.phone_number, lead.call_count) == ("+14045550100", len(ways))


@pytest.mark.parametrize("number", ["anonymous", "Restricted", "+266696687", "client:anna", ""])
async def test_a_caller_who_withholds_the_number_makes_no_lead_and_the_call_is_listed(suite, number):
    await suite.record("e1", 100, caller_number=number)
    assert await leads_of(suite) == []
    assert len(await calls_of(suite)) == 1


async def test_rows_of_an_earlier_version_are_counted_once_and_then_go_on(suite):
    for n in range(3):
        await suite.record(
            f"e{n}", 100 + n, provider_call_id=f"C{n}", caller_number="+14045550100", lead_score=n
        )
    await suite.app.db.write(lambda conn: conn.execute(leads.update().where(sa.true()).values(tally=None)))
    await suite.app.db.write(
        lambda conn: conn.execute(calls.update().where(sa.true()).values(events_sum=None))
    )
    await suite.record("e9", 90, provider_call_id="C1", caller_name="Ann")
    (lead,) = await leads_of(suite)
    assert (lead.call_count, lead.lead_score, lead.display_name) == (3, 2, "Ann")
    await suite.record("e10", 300, provider_call_id="C3", caller_number="+14045550100", caller_name="Bob")
    await suite.record("e11", 310, provider_call_id="C2", spam=True)
    (lead,) = await leads_of(suite)
    assert (lead.call_count, lead.lead_score, lead.display_name) == (3, 1, "Bob")
    assert lead.first_call_time.seconds == 90
    await suite.record("e12", 320, provider_call_id="C3", mask=["caller_name"])
    (lead,) = await leads_of(suite)
    assert lead.display_name == "Ann", "the latest call that has a name gives it"


async def test_how_many_calls_a_lead_and_events_a_call_have_changes_nothing_of_the_work(suite, monkeypatch):
    """Every row that the statements of a transaction give is counted: none gives more for the many."""
    fetched = []

    def count(real):
        def counted(self, conn, parameters):
            rows = real(self, conn, parameters)
            fetched.append(len(rows) if isinstance(rows, list) else 1)
            return rows

        return counted

    monkeypatch.setattr(Hot, "all", count(Hot.all))
    monkeypatch.setattr(Hot, "first", count(Hot.first))
    seen = []
    for n in range(12):
        fetched.clear()
        await suite.record(
            f"e{n}", 100 + n, provider_call_id=f"C{n}", caller_number="+14045550100", lead_score=n
        )
        await suite.record(f"f{n}", 100 + n, provider_call_id="C0", note=str(n))
        seen.append((len(fetched), sum(fetched)))
    assert len(set(seen[2:])) == 1, seen


async def test_a_score_outside_of_its_range_is_refused(suite, raised):
    error = await raised(suite.gateway.RecordCall(record_request("e1", 100, lead_score=101)))
    assert list(error.violations) == [("call.lead_score", "must be 0 to 100")]
