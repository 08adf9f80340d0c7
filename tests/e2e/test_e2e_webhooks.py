"""What a provider and a tenant see, through the real processes."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from trunkline_cli.suite import web, webhooks
from trunkline_cli.suite.seed import api

from tests.e2e.conftest import CALLS, World


def recorded_call(world: World, sample: dict[str, Any], **fields: Any) -> tuple[str, webhooks.Webhook]:
    """A CallRail post_call of a sample whose recording the stand-in has."""
    call_id = world.call_id()
    world.recordings.files[f"CAL{call_id}"] = world.recordings.files[call_id] = CALLS / sample["file"]
    source = world.tenants[0].source("callrail")
    payload = webhooks.callrail_call(source, call_id, number=sample["customer_phone"], **fields)
    return call_id, webhooks.callrail(source, "post_call", payload)


def test_a_callrail_call_is_analysed_and_its_lead_listed(world, samples):
    tenant = world.tenants[0]
    call_id, webhook = recorded_call(world, samples["plumbing-emergency"], customer_name="John Carter")
    answer = world.post(webhook)
    assert answer.status_code == 202
    event = world.finished(tenant, answer.json()["receiptId"])
    call = world.get(tenant, event["call"]).raise_for_status().json()
    assert call["providerCallId"] == f"CAL{call_id}"
    assert call["intent"] == "INTENT_EMERGENCY_SERVICE"
    assert call["leadLevel"] == "LEAD_LEVEL_HIGH"
    assert call["speakers"] == 2
    assert call["openingWords"]
    lead = world.get(tenant, call["lead"]).raise_for_status().json()
    assert lead["phoneNumber"] == samples["plumbing-emergency"]["customer_phone"]
    assert lead["callCount"] >= 1
    whole = world.get(tenant, event["call"] + "/conversation").raise_for_status().json()
    assert whole["missing"] == []
    assert whole["transcript"]["segments"]
    assert whole["analysis"]["leadReasons"]
    assert [a["stage"] for a in event["history"] if a["outcome"] == "ok"], "the story tells what was tried"


def test_a_twilio_recording_is_analysed(world, samples):
    tenant, sample = world.tenants[1], samples["voicemail"]
    source = tenant.source("twilio")
    number = int(world.call_id())
    call_sid, recording_sid = f"CA{number:032x}", f"RE{number:032x}"
    world.recordings.files[recording_sid] = CALLS / sample["file"]
    form = webhooks.twilio_recording(
        source, call_sid, recording_sid, world.recordings.url, sample["seconds"], 1
    )
    answer = world.post(webhooks.twilio(source, "recording_status", form))
    assert answer.status_code == 202, answer.text
    event = world.finished(tenant, answer.json()["receiptId"])
    call = world.get(tenant, event["call"]).raise_for_status().json()
    assert call["providerCallId"] == call_sid
    assert call["transcript"]


def test_a_recording_that_is_not_ready_is_waited_for(world, samples):
    tenant = world.tenants[0]
    call_id, webhook = recorded_call(world, samples["silence"])
    world.recordings.not_ready[call_id] = world.recordings.not_ready[f"CAL{call_id}"] = 1
    world.recordings.retry_after = 1  # of itself the worker looks again after 15 s
    try:
        event = world.finished(tenant, world.post(webhook).json()["receiptId"])
    finally:
        world.recordings.retry_after = None
    assert "wait" in {attempt["outcome"] for attempt in event["history"]}
    assert world.get(tenant, event["call"]).json()["intent"] == "INTENT_NO_CONVERSATION"


def test_a_recording_without_a_sample_is_no_conversation(world, samples, tmp_path):
    call_id, webhook = recorded_call(world, samples["silence"])
    header = (CALLS / samples["silence"]["file"]).read_bytes()[:44]
    (tmp_path / "header.wav").write_bytes(header)
    world.recordings.files[f"CAL{call_id}"] = world.recordings.files[call_id] = tmp_path / "header.wav"
    event = world.finished(world.tenants[0], world.post(webhook).json()["receiptId"])
    assert world.get(world.tenants[0], event["call"]).json()["intent"] == "INTENT_NO_CONVERSATION"


def test_recordings_without_a_header_are_read_as_their_source_says(world, samples, tmp_path):
    tenant = world.tenants[0]
    call_id, webhook = recorded_call(world, samples["silence"])
    raw = tmp_path / "call.ulaw"
    raw.write_bytes(b"\xfe\x7e" * 12_000)  # a few seconds of next to nothing
    world.recordings.files[f"CAL{call_id}"] = world.recordings.files[call_id] = raw
    receipt = world.post(webhook).json()["receiptId"]
    event = world.finished(tenant, receipt, "EVENT_STATE_DEAD_LETTER")
    assert "headerless_format" in event["lastError"]
    with api(world.suite.http_url, tenant.api_key) as client:
        path, mask = f"/v1/{event['source']}", {"updateMask": "headerlessFormat"}
        body = {"headerlessFormat": "HEADERLESS_FORMAT_MULAW"}
        client.patch(path, params=mask, json=body).raise_for_status()
        try:
            client.post(f"/v1/{event['name']}:replay", json={}).raise_for_status()
            event = world.finished(tenant, receipt)
        finally:
            client.patch(path, params=mask, json={}).raise_for_status()
    assert world.get(tenant, event["call"]).json()["intent"] == "INTENT_NO_CONVERSATION"
    recordings = world.get(tenant, f"tenants/{tenant.name}/recordings").json()["recordings"]
    assert "mulaw/pcm_mulaw" in {recording["format"] for recording in recordings}


def test_a_spanish_caller_is_said_to_be_unreliable(world, samples):
    tenant, sample = world.tenants[0], samples["spanish-caller"]
    source, call_id = tenant.sources[2], world.call_id()
    world.recordings.files[f"CAL{call_id}"] = world.recordings.files[call_id] = CALLS / sample["file"]
    payload = webhooks.callrail_call(source, call_id, number=sample["customer_phone"])
    answer = world.post(webhooks.callrail(source, "post_call", payload))
    event = world.finished(tenant, answer.json()["receiptId"])
    assert world.get(tenant, event["call"]).json()["unreliable"] is True


def test_a_standard_webhooks_sender_is_taken_and_its_redelivery_is_one_event(world):
    from standardwebhooks import Webhook as Signer

    tenant = world.tenants[0]
    body = {"provider": "PROVIDER_STANDARD_WEBHOOKS", "mapping": {
        "kind": "PAYLOAD_KIND_TEXT", "callId": "data.id", "callerNumber": "data.from", "text": "data.text",
    }}  # fmt: skip
    with api(world.suite.http_url, tenant.api_key) as client:
        made = client.post(f"/v1/tenants/{tenant.name}/sources", json=body).raise_for_status().json()
    payload = '{"data": {"id": "m1", "from": "+15555550142", "text": "what do you charge to clean a gutter"}}'
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "content-type": "application/json",
        "webhook-signature": Signer(made["secret"]).sign("msg_1", now, payload),
    }  # fmt: skip
    url = world.suite.http_url + made["hookPath"] + "/message"
    first, second = (web.post(url, content=payload, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202), first.text
    event = world.finished(tenant, second.json()["receiptId"])
    assert event["receiptCount"] == 2
    assert world.get(tenant, event["call"]).json()["intent"] == "INTENT_QUOTE_REQUEST"


def test_a_redelivery_is_two_receipts_one_event_one_call(world):
    tenant = world.tenants[0]
    source, call_id = tenant.source("callrail"), world.call_id()
    webhook = webhooks.callrail(source, "post_call", webhooks.callrail_call(source, call_id, recorded=False))
    first, second = world.post(webhook), world.post(webhook)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["receiptId"] != second.json()["receiptId"]
    event = world.finished(tenant, second.json()["receiptId"])
    assert [r["receiptId"] for r in event["receipts"]] == [
        first.json()["receiptId"],
        second.json()["receiptId"],
    ]
    calls = world.get(tenant, f"tenants/{tenant.name}/calls", pageSize="500").json()["calls"]
    assert sum(call["providerCallId"] == f"CAL{call_id}" for call in calls) == 1


def test_a_bad_signature_is_401_and_kept_for_inspection(world):
    tenant = world.tenants[0]
    source = tenant.source("callrail")
    webhook = webhooks.callrail(source, "post_call", {"id": world.call_id()})
    answer = world.post(webhook, signature="AAAA", authorization="Bearer very-secret")
    assert answer.status_code == 401
    assert answer.json()["error"]["status"] == "UNAUTHENTICATED"

    def kept() -> dict[str, Any] | None:
        listed = world.get(tenant, f"tenants/{tenant.name}/rejections").raise_for_status().json()
        return next((r for r in listed.get("rejections", []) if r["eventType"] == "post_call"), None)

    rejection = world.wait(kept, "the rejection")
    assert rejection["source"].endswith(source.id)
    assert rejection["reason"]
    assert "very-secret" not in str(rejection)
    assert source.secret not in str(rejection)


def test_an_unknown_source_is_404(world):
    source = world.tenants[0].source("callrail")
    webhook = webhooks.callrail(source, "post_call", {"id": "1"})
    unknown = webhooks.Webhook(webhook.url.replace(source.id, "s-nobody"), webhook.body, webhook.headers)
    assert world.post(unknown).status_code == 404


@pytest.mark.parametrize("chunked", [False, True])
def test_an_oversized_body_is_413(world, chunked):
    source = world.tenants[0].source("callrail")
    webhook = webhooks.callrail(source, "post_call", {"id": "1", "note": "x" * 200_000})
    body = iter([webhook.body]) if chunked else webhook.body
    answer = world.post(webhooks.Webhook(webhook.url, body, webhook.headers))  # type: ignore[arg-type]
    assert answer.status_code == 413


def test_a_malformed_but_signed_body_is_accepted_and_a_visible_dead_letter(world):
    tenant = world.tenants[0]
    source = tenant.source("callrail")
    body = b'{"id": '
    signed = webhooks.callrail(source, "post_call", {})
    import base64
    import hashlib
    import hmac

    signature = base64.b64encode(hmac.digest(source.secret.encode(), body, hashlib.sha1)).decode()
    answer = world.post(webhooks.Webhook(signed.url, body, {**signed.headers, "signature": signature}))
    assert answer.status_code == 202
    event = world.finished(tenant, answer.json()["receiptId"], "EVENT_STATE_DEAD_LETTER")
    assert event["lastError"]
    listed = world.events(tenant, filter="state = dead_letter")
    assert event["name"] in [e["name"] for e in listed]


def test_a_method_other_than_post_is_405_and_says_which_is_allowed(world):

    answer = web.get(world.tenants[0].sources[0].url + "/post_call")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_another_tenants_call_is_404(world):
    mine, other = world.tenants
    source, call_id = mine.source("callrail"), world.call_id()
    answer = world.post(
        webhooks.callrail(source, "pre_call", webhooks.callrail_call(source, call_id, recorded=False))
    )
    event = world.finished(mine, answer.json()["receiptId"])
    for name in (event["name"], event["call"], event["call"] + "/conversation", f"tenants/{mine.name}"):
        denied, absent = world.get(other, name), world.get(other, name.replace(mine.name, "nobody"))
        assert denied.status_code == absent.status_code == 404
        assert denied.text.replace(mine.name, "nobody") == absent.text, "the answers tell no difference"
    assert world.get(other, f"tenants/{mine.name}/calls").status_code == 404


STABLE = {"name", "etag", "createTime", "updateTime", "events", "providerCallId", "callerNumber", "lead"}


def test_pre_call_call_modified_and_post_call_give_the_same_row_in_every_order(world):
    tenant = world.tenants[1]
    source = tenant.source("callrail")
    rows = []
    for order in itertools.permutations(("pre_call", "post_call", "call_modified")):
        call_id = world.call_id()
        number = f"+1555{call_id[-7:]}"
        base = {"recorded": False, "number": number, "start_time": "2026-11-20T10:00:00.000-05:00"}
        payloads = {
            "pre_call": webhooks.callrail_call(
                source, call_id, **base, timestamp="2026-11-20T10:00:00.000-05:00", answered=None, duration=None,
            ),
            "post_call": webhooks.callrail_call(
                source, call_id, **base, timestamp="2026-11-20T10:00:40.000-05:00", note="first", duration="40",
            ),
            "call_modified": webhooks.callrail_call(
                source, call_id, **base, timestamp="2026-11-20T10:30:00.000-05:00", note="second",
                value="$120", changes=["note"],
            ),
        }  # fmt: skip
        for event_type in order:
            answer = world.post(webhooks.callrail(source, event_type, payloads[event_type]))
            event = world.finished(tenant, answer.json()["receiptId"])
        call = world.get(tenant, event["call"]).raise_for_status().json()
        assert len(call["events"]) == 3
        rows.append({k: v for k, v in call.items() if k not in STABLE})
    assert rows[0]["note"] == "second"
    assert all(row == rows[0] for row in rows), rows
