"""The judgement: what was acknowledged against what is stored, a sentence for each broken promise."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tools.chaos.conversations import Conversation
from tools.chaos.stored import Call, Stored


@dataclass
class Verdict:
    """Broken promises, by kind; none of any kind is what we promise."""

    recorded: int = 0
    dead: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.wrong)

    def sentences(self) -> Iterator[str]:
        """Each broken promise, led by its kind."""
        for kind, broken in (("lost", self.lost), ("doubled", self.doubled), ("wrong", self.wrong)):
            yield from (f"{kind}: {sentence}" for sentence in broken)


def judge(conversations: list[Conversation], stored: Stored) -> Verdict:
    """Compare; everything was acknowledged and nothing waits any more."""
    verdict = Verdict()
    events = _receipts(verdict, conversations, stored)
    told = _events(verdict, conversations, stored, events)
    _calls(verdict, conversations, stored, events, told)
    _leads(verdict, conversations, stored)
    _results(verdict, conversations, stored)
    return verdict


def _receipts(verdict: Verdict, conversations: list[Conversation], stored: Stored) -> dict[int, str]:
    """Every acknowledged webhook has its receipt, and each message is one event; that event by id(message)."""
    by_id = {receipt.receipt_id: receipt for receipt in stored.receipts}
    for receipt_id, count in Counter(receipt.receipt_id for receipt in stored.receipts).items():
        if count > 1:
            verdict.doubled.append(f"receipt {receipt_id} is stored {count} times")
    for receipt in stored.receipts:
        if not receipt.events:
            verdict.lost.append(f"receipt {receipt.receipt_id} belongs to no event")
        elif len(receipt.events) > 1:
            verdict.doubled.append(f"receipt {receipt.receipt_id} belongs to {len(receipt.events)} events")
    if stored.rejections:
        verdict.wrong.append(f"{stored.rejections} webhooks were rejected; every signature was right")
    events: dict[int, str] = {}
    owner: dict[str, str] = {}
    for conversation in conversations:
        for message in conversation.messages:
            what = (
                f"{message.webhook.url.rsplit('/', 1)[1]} of {conversation.provider_call_id or 'malformed'}"
            )
            digest = hashlib.sha256(message.webhook.body).hexdigest()
            if not message.receipts:
                verdict.wrong.append(f"{what} was never acknowledged")
            for receipt_id in message.receipts:
                found = by_id.get(receipt_id)
                if found is None:
                    verdict.lost.append(f"{what}: acknowledged as {receipt_id}, which is not stored")
                    continue
                if found.digest != digest:
                    verdict.wrong.append(f"{what}: receipt {receipt_id} holds another body")
                for event in found.events:
                    if events.setdefault(id(message), event) != event:
                        verdict.doubled.append(f"{what} is two events, {events[id(message)]} and {event}")
                    if owner.setdefault(event, what) != what:
                        verdict.lost.append(f"{what} and {owner[event]} are one event")
    return events


def _events(
    verdict: Verdict, conversations: list[Conversation], stored: Stored, events: dict[int, str]
) -> dict[str, list[Call]]:
    """Every event is recorded once, or a dead letter for a reason; the calls that know of each event."""
    told: dict[str, list[Call]] = {}
    for call in stored.calls:
        for event_id in call.events:
            told.setdefault(event_id, []).append(call)
    malformed = {
        events.get(id(message)) for c in conversations for message in c.messages if message.malformed
    }
    for event_id, count in Counter(event.event_id for event in stored.events).items():
        if count > 1:
            verdict.doubled.append(f"event {event_id} has {count} jobs")
    for event in stored.events:
        of = len(told.get(event.event_id, ()))
        if event.state == "done":
            verdict.recorded += 1
            if of == 0:
                verdict.lost.append(f"event {event.event_id} is done, and no call knows of it")
        elif event.state == "dead":
            verdict.dead += 1
            if not event.error:
                verdict.wrong.append(f"event {event.event_id} is a dead letter without a reason")
            elif event.event_id not in malformed:
                verdict.wrong.append(f"event {event.event_id} became a dead letter by kills: {event.error}")
        else:
            verdict.lost.append(f"event {event.event_id} has a job in state {event.state}")
        if of > 1:
            verdict.doubled.append(f"event {event.event_id} is recorded with {of} calls")
    known = {event.event_id for event in stored.events}
    for event_id in sorted({e for e in events.values() if e not in known}):
        verdict.lost.append(f"event {event_id} has receipts and no row")
    return told


def _calls(
    verdict: Verdict,
    conversations: list[Conversation],
    stored: Stored,
    events: dict[int, str],
    told: dict[str, list[Call]],
) -> None:
    """Every conversation is one call, with its own events and what was said last."""
    calls = Counter((call.tenant, call.provider_call_id) for call in stored.calls)
    by_id = {(call.tenant, call.provider_call_id): call for call in stored.calls}
    expected = {(c.tenant, c.provider_call_id): c for c in conversations if c.provider_call_id}
    for key, count in calls.items():
        if count > 1:
            verdict.doubled.append(f"call {key} is there {count} times")
        if key not in expected:
            verdict.doubled.append(f"call {key} is there, and nobody told of it by that id")
    for key, conversation in expected.items():
        call = by_id.get(key)
        if call is None:
            verdict.lost.append(f"call {key} is not there")
            continue
        for message in conversation.messages:
            event = events.get(id(message))
            if event is not None and not any(one.call_id == call.call_id for one in told.get(event, ())):
                verdict.lost.append(f"event {event} is not recorded with its call {key}")
        if call.note != conversation.note:
            verdict.wrong.append(f"call {key} says {call.note!r}; said last was {conversation.note!r}")
        if conversation.recordings and not call.analysed:
            verdict.lost.append(f"call {key} has no analysis")


def _leads(verdict: Verdict, conversations: list[Conversation], stored: Stored) -> None:
    """Every caller is one lead that counts each of its calls once."""
    expected = Counter((c.tenant, c.number) for c in conversations if c.number)
    for key in sorted(expected.keys() | stored.leads.keys()):
        count, rows, wanted = stored.leads.get(key, 0), stored.leads_calls.get(key, 0), expected.get(key, 0)
        if count != rows:
            verdict.wrong.append(f"lead {key} counts {count} calls; {rows} rows belong to it")
        if count > wanted:
            verdict.doubled.append(f"lead {key} counts {count} calls; there were {wanted}")
        elif count < wanted:
            verdict.lost.append(f"lead {key} counts {count} calls; there were {wanted}")


def _results(verdict: Verdict, conversations: list[Conversation], stored: Stored) -> None:
    """Every recording is stored, transcribed and analysed once."""
    recordings = {(c.tenant, c.provider_call_id): c.recordings for c in conversations}
    texts = {(c.tenant, c.provider_call_id) for c in conversations if c.provider_call_id.startswith("SMT")}
    for call in stored.calls:
        key = (call.tenant, call.provider_call_id)
        name = f"tenants/{call.tenant}/calls/{call.call_id}"
        wanted = recordings.get(key, 0)
        analyses = stored.analyses.get((call.tenant, call.call_id), 0)
        for what, count in (
            ("recordings", stored.recordings.get(name, 0)),
            ("transcripts", stored.transcripts.get(name, 0)),
        ):
            if count != wanted:
                (verdict.doubled if count > wanted else verdict.lost).append(
                    f"call {key} has {count} {what}; there were {wanted}"
                )
        # Two recordings in which the stand-in hears the same nothing are one analysis.
        if analyses > wanted + (key in texts):
            verdict.doubled.append(f"call {key} has {analyses} analyses of {wanted} recordings")
        elif wanted + (key in texts) and not analyses:
            verdict.lost.append(f"call {key} has no analysis at the ai service")
