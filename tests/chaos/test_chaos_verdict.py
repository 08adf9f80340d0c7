"""The judgement finds what was broken on purpose: each way to lose or double something, and its kind."""

import hashlib
import random
from dataclasses import replace

import pytest
from trunkline_cli.suite.seed import SeededSource, SeededTenant

from tools.chaos.conversations import Conversations
from tools.chaos.stored import Call, Event, Receipt, Stored
from tools.chaos.verdict import judge


def a_world():
    """Conversations, and the stores as they must look after them."""
    source = SeededSource("s-1", "callrail", "secret", "http://gateway/hooks/s-1", "227799611", "key")
    conversations = Conversations([SeededTenant("acme", "key", (source,))], random.Random(7))
    for _ in range(40):
        conversations.make()
    receipts, events, calls, leads, recordings, analyses = [], [], [], {}, {}, {}
    for number, conversation in enumerate(conversations.made):
        mine = []
        for place, message in enumerate(conversation.messages):
            event_id = f"e{number}-{place}"
            message.receipts.append(f"r{number}-{place}")
            digest = hashlib.sha256(message.webhook.body).hexdigest()
            receipts.append(Receipt(message.receipts[0], digest, (event_id,)))
            events.append(
                Event(event_id, "dead" if message.malformed else "done", "no id" if message.malformed else "")
            )
            mine.append(event_id)
        if not conversation.provider_call_id:
            continue
        call_id = f"c{number}"
        key = ("acme", conversation.number)
        leads[key] = leads.get(key, 0) + 1
        told = conversation.recordings or int(conversation.provider_call_id.startswith("SMT"))
        calls.append(
            Call(
                "acme",
                call_id,
                conversation.provider_call_id,
                "l",
                conversation.note,
                bool(told),
                tuple(mine),
            )
        )
        if conversation.recordings:
            recordings[f"tenants/acme/calls/{call_id}"] = conversation.recordings
        if told:
            analyses["acme", call_id] = told
    stored = Stored(receipts, events, calls, leads, dict(leads), recordings, dict(recordings), analyses, 0)
    return conversations.made, stored


def test_a_sound_run_is_found_sound():
    made, stored = a_world()
    verdict = judge(made, stored)
    assert list(verdict.sentences()) == []
    assert verdict.recorded == len(stored.events) - verdict.dead
    assert verdict.dead >= 1


def of_a_recording(stored):
    return next(i for i, call in enumerate(stored.calls) if call.analysed)


def first_lead(stored, change):
    key = next(iter(stored.leads))
    return {**stored.leads, key: stored.leads[key] + change}


def changed(items, index, **fields):
    return [*items[:index], replace(items[index], **fields), *items[index + 1 :]]


BREAK = {
    "a receipt is gone": ("lost", lambda s: {"receipts": s.receipts[1:]}),
    "a receipt is stored twice": ("doubled", lambda s: {"receipts": [*s.receipts, s.receipts[0]]}),
    "a receipt holds another body": (
        "wrong",
        lambda s: {"receipts": changed(s.receipts, 0, digest="00")},
    ),
    "a receipt was not admitted": ("lost", lambda s: {"receipts": changed(s.receipts, 0, events=())}),
    "a receipt became two events": (
        "doubled",
        lambda s: {"receipts": changed(s.receipts, 0, events=(*s.receipts[0].events, "e-more"))},
    ),
    "an event is gone": ("lost", lambda s: {"events": s.events[1:]}),
    "an event has two jobs": ("doubled", lambda s: {"events": [*s.events, s.events[0]]}),
    "an event has no job": ("lost", lambda s: {"events": changed(s.events, 0, state="none")}),
    "a job never ended": ("lost", lambda s: {"events": changed(s.events, 0, state="leased")}),
    "a sound event was buried": (
        "wrong",
        lambda s: {"events": changed(s.events, 0, state="dead", error="UNAVAILABLE")},
    ),
    "a call is gone": ("lost", lambda s: {"calls": s.calls[1:]}),
    "a call is there twice": (
        "doubled",
        lambda s: {"calls": [*s.calls, replace(s.calls[0], call_id="c-more")]},
    ),
    "a call was not merged": (
        "doubled",
        lambda s: {"calls": [*s.calls, replace(s.calls[0], call_id="c-more", provider_call_id="300000001")]},
    ),
    "a call does not know its event": ("lost", lambda s: {"calls": changed(s.calls, 0, events=())}),
    "an older note stands": ("wrong", lambda s: {"calls": changed(s.calls, 0, note="changed 9 times")}),
    "a call was not analysed": (
        "lost",
        lambda s: {"calls": changed(s.calls, of_a_recording(s), analysed=False)},
    ),
    "a lead counts a call twice": ("doubled", lambda s: {"leads": first_lead(s, 1)}),
    "a lead counts too few": ("lost", lambda s: {"leads": first_lead(s, -1)}),
    "a recording was kept twice": (
        "doubled",
        lambda s: {"recordings": {name: count + 1 for name, count in s.recordings.items()}},
    ),
    "a recording is gone": ("lost", lambda s: {"recordings": {}}),
    "a transcript is gone": ("lost", lambda s: {"transcripts": {}}),
    "an analysis was made twice": (
        "doubled",
        lambda s: {"analyses": {key: count + 1 for key, count in s.analyses.items()}},
    ),
    "an analysis is gone": ("lost", lambda s: {"analyses": {}}),
    "a right signature was rejected": ("wrong", lambda s: {"rejections": 1}),
}


@pytest.mark.parametrize(("kind", "broken"), BREAK.values(), ids=BREAK.keys())
def test_what_is_broken_is_found(kind, broken):
    made, stored = a_world()
    verdict = judge(made, replace(stored, **broken(stored)))
    assert getattr(verdict, kind) != []
