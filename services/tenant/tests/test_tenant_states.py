"""How far a call has come: the later state stands, in any order; and what a deleted recording leaves."""

import itertools
from datetime import UTC

import grpc
import pytest
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_tenant.calls.facts import Stamp, join, stated_by

from .test_tenant_record import calls_of

FIELDS = ("state", "state_reason", "state_sequence")
RECORDING = "tenants/acme/recordings/r1"
TRANSCRIPT = "tenants/acme/transcripts/t1"


def said(state, sequence, stamp, reason=""):
    call = call_pb2.Call(state=f"CALL_STATE_{state}", state_sequence=sequence, state_reason=reason)
    return stated_by(call, FIELDS, stamp)


def states(call):
    return call_pb2.CallState.Name(call.state).removeprefix("CALL_STATE_"), call.state_reason


FIRST, SECOND = Stamp(100, 30, 1, "e1"), Stamp(200, 30, 2, "e2")
RANKED = [
    said("RECEIVED", 0, Stamp(300, 10, 3, "e0")),  # the first facts, though they came last
    said("NO_RECORDING", 0, Stamp(90, 20, 3, "e9")),
    said("NO_RECORDING", 0, Stamp(250, 20, 3, "e8")),  # over, and no stages: gives way to what is processed
    said("FETCHING", 18, FIRST),
    said("TRANSCRIBING", 19, FIRST),
    said("FAILED", 23, FIRST, "GONE: no"),
    said("FETCHING", 34, FIRST),  # replayed under a later lease
    said("DONE", 37, FIRST),
    said("FETCHING", 18, SECOND),  # a later event
]


def test_of_two_states_the_later_stands_in_any_order():
    for older, newer in itertools.combinations(range(len(RANKED)), 2):
        for pair in ((older, newer), (newer, older)):
            joined = join(RANKED[pair[0]], RANKED[pair[1]])
            assert [getattr(joined.facts, name) for name in FIELDS] == [
                getattr(RANKED[newer].facts, name) for name in FIELDS
            ], (older, newer)


async def record(suite, event, state, sequence, at=100, **fields):
    return await suite.record(
        event, at, rank=30, state=f"CALL_STATE_{state}", state_sequence=sequence, **fields
    )


async def tell(suite, call, event, state, sequence, reason=""):
    request = call_service_pb2.RecordCallStateRequest(
        name=call.name,
        event=f"tenants/acme/events/{event}",
        state=f"CALL_STATE_{state}",
        state_reason=reason,
        state_sequence=sequence,
    )
    return (await suite.gateway.RecordCallState(request)).recorded


async def test_a_stage_that_lasts_and_a_failure_are_told_by_themselves(suite):
    call = await record(suite, "e1", "FETCHING", 18)
    assert await tell(suite, call, "e1", "TRANSCRIBING", 19)
    assert not await tell(suite, call, "e1", "FETCHING", 18), "an older one came late"
    assert states(await suite.get_call(call.name)) == ("TRANSCRIBING", "")
    assert await tell(suite, call, "e1", "FAILED", 23, "RECORDING_GONE: it is gone")
    shown = await suite.get_call(call.name)
    assert states(shown) == ("FAILED", "RECORDING_GONE: it is gone")
    assert shown.state_sequence == 0, "nobody's business"
    await record(suite, "e2", "DONE", 21, at=200)
    assert not await tell(suite, call, "e1", "FAILED", 99, "another event goes on with it")
    assert states(await suite.get_call(call.name)) == ("DONE", "")


async def test_a_state_that_is_told_again_writes_nothing(suite):
    call = await record(suite, "e1", "FETCHING", 18)
    suite.clock.advance(5)
    again = await record(suite, "e1", "FETCHING", 34)
    assert (again.etag, again.update_time) == (call.etag, call.update_time)


async def test_calls_are_found_by_their_state_and_followed_by_their_last_change(suite):
    waits = await record(suite, "e1", "FETCHING", 18, provider_call_id="one")
    suite.clock.advance(10)
    await record(suite, "e2", "DONE", 18, provider_call_id="two")
    suite.clock.advance(10)
    await tell(suite, waits, "e1", "FAILED", 23, "GONE: it is gone")
    assert [c.provider_call_id for c in await calls_of(suite, filter="state = failed")] == ["one"]
    assert [c.provider_call_id for c in await calls_of(suite, filter="state = done")] == ["two"]
    assert await calls_of(suite, filter="state = no_recording") == []
    first, second = await calls_of(suite, order_by="update_time")
    assert (first.provider_call_id, second.provider_call_id) == ("two", "one")
    since = first.update_time.ToDatetime(UTC).isoformat()
    (changed,) = await calls_of(suite, filter=f'update_time > "{since}"', order_by="update_time")
    assert changed.provider_call_id == "one"
    page = call_service_pb2.ListCallsRequest(parent="tenants/acme", page_size=1, order_by="update_time desc")
    page.page_token = (await suite.operator.ListCalls(page)).next_page_token
    (last,) = (await suite.operator.ListCalls(page)).calls
    assert last.provider_call_id == "two"


async def test_a_state_that_is_none_is_refused_by_name(suite, raised):
    request = call_service_pb2.ListCallsRequest(parent="tenants/acme", filter="state = asleep")
    ((field, text),) = (await raised(suite.operator.ListCalls(request))).violations
    assert field == "filter"
    assert "no_recording" in text


async def forget(suite, call, recording=RECORDING, **fields):
    request = call_service_pb2.ForgetRecordingRequest(name=call.name, recording=recording, **fields)
    return (await suite.audio.ForgetRecording(request)).forgotten


async def test_a_deleted_recording_leaves_its_call_which_says_when(suite):
    call = await suite.record("e1", 1, recording=RECORDING, transcript=TRANSCRIPT, summary="A roof leaks.")
    suite.clock.advance(60)
    assert not await forget(suite, call, "tenants/acme/recordings/another")
    assert await forget(suite, call)
    shown = await suite.get_call(call.name)
    assert (shown.recording, shown.transcript, shown.summary) == ("", "", "A roof leaks.")
    assert shown.recording_delete_time.ToDatetime(UTC) == suite.clock.now()
    assert shown.update_time == shown.recording_delete_time
    assert shown.etag != call.etag
    assert not await forget(suite, call), "twice is as once"
    again = await suite.record("e1", 1, recording=RECORDING, transcript=TRANSCRIPT)
    assert not again.HasField("recording_delete_time"), "a replay fetched it anew"


async def test_a_transcript_may_outlive_its_recording(suite):
    call = await suite.record("e1", 1, recording=RECORDING, transcript=TRANSCRIPT)
    assert await forget(suite, call, transcript_stays=True)
    shown = await suite.get_call(call.name)
    assert (shown.recording, shown.transcript) == ("", TRANSCRIPT)


async def test_a_deleted_transcript_leaves_its_call(suite):
    call = await suite.record("e1", 1, recording=RECORDING, transcript=TRANSCRIPT, summary="A roof leaks.")
    other = call_service_pb2.ForgetTranscriptRequest(name=call.name, transcript=f"{TRANSCRIPT}-2")
    assert not (await suite.audio.ForgetTranscript(other)).forgotten
    request = call_service_pb2.ForgetTranscriptRequest(name=call.name, transcript=TRANSCRIPT)
    assert (await suite.audio.ForgetTranscript(request)).forgotten
    shown = await suite.get_call(call.name)
    assert (shown.recording, shown.transcript, shown.summary) == (RECORDING, "", "A roof leaks.")
    assert shown.etag != call.etag
    assert not (await suite.audio.ForgetTranscript(request)).forgotten


async def test_a_deleted_file_of_a_message_says_so(suite):
    media = [call_pb2.Media(url="https://x/1", recording=RECORDING), call_pb2.Media(url="https://x/2")]
    call = await suite.record("e1", 1, media=media)
    assert await forget(suite, call)
    first, second = (await suite.get_call(call.name)).media
    assert (first.recording, first.problem, second.problem) == ("", "RECORDING_DELETED", "")


@pytest.mark.parametrize("caller", ["operator", "gateway"])
async def test_only_audio_says_that_a_recording_is_gone(suite, caller):
    call = await suite.record("e1", 1, recording=RECORDING)
    request = call_service_pb2.ForgetRecordingRequest(name=call.name, recording=RECORDING)
    with pytest.raises(grpc.RpcError) as refused:
        await getattr(suite, caller).ForgetRecording(request)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
