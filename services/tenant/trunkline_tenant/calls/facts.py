"""Merging what events say about a call: pure, and the same in any order of arrival.

A `Statement` is what one event says, or what several together say. Joining two takes each field from the one
with the greater stamp, so joining is associative and commutative and repeating changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from trunkline.tenant.v1 import call_pb2


class Stamp(NamedTuple):
    """What decides which of two values stands: the greater, so what happened later, then what was received later."""

    time: int
    """When the event happened, in microseconds since 1970."""
    rank: int
    received: int
    """When it was received, the same; 0 when nobody said so."""
    event: str

    @classmethod
    def kept(cls, values: Sequence[Any]) -> Stamp:
        """Return a stamp from its row; older rows do not say when the event was received."""
        time, rank, *received, event = values
        return cls(time, rank, received[0] if received else 0, event)


_DERIVED = {
    "lead",
    "last_event_time",
    "create_time",
    "update_time",
    "etag",
    "events",
    "recording_delete_time",
}
# Always stated, whatever the mask says; those that make the call's identity do not merge.
_IDENTITY = {"name", "provider", "provider_account", "provider_call_id"}
_SOURCE = "source"
_DEGRADED = "degraded"
# What comes from an analysis: from a good one or from a degraded one, never some of each. A lesser engine may not
# analyse a language that the configured one does, so whether the call is reliable comes along.
_OF_ANALYSIS = frozenset({
    "analysis", "spam", "sentiment", "intent", "lead_level", "lead_score", "summary", _DEGRADED, "analyze_time",
    "unreliable", "unreliable_reason", "outcome", "labels", "keywords",
})  # fmt: skip

# How far the call has come: one field and what tells which of two stands.
_STATE = "state"
_OF_STATE = frozenset({_STATE, "state_reason", "state_sequence"})

FIELDS: Mapping[str, FieldDescriptor] = {
    field.name: field for field in call_pb2.Call.DESCRIPTOR.fields if field.name not in _DERIVED | _IDENTITY
}
STATABLE = sorted(FIELDS.keys() | _IDENTITY)


@dataclass(frozen=True, slots=True)
class Statement:
    """Values of fields, each with the stamp of the event that it comes from."""

    facts: call_pb2.Call
    times: Mapping[str, Stamp]


class UnknownField(Exception):
    """A field that an event cannot state."""


def stated_by(call: call_pb2.Call, mask: Iterable[str], stamp: Stamp) -> Statement:
    """Return what an event states: the fields of the mask, or those that are set when the mask is empty.

    Raises UnknownField with the name of a field of the mask that cannot be stated.
    """
    names = set(mask)
    for name in sorted(names):
        if name not in FIELDS and name not in _IDENTITY:
            raise UnknownField(name)
    if not names:
        names = {field.name for field, _ in call.ListFields()}
    if call.source:
        names.add(_SOURCE)
    names &= FIELDS.keys()
    if names & _OF_STATE:
        names |= _OF_STATE
    facts = call_pb2.Call()
    for name in names:
        _copy(FIELDS[name], call, facts)
    return Statement(facts, dict.fromkeys(names, stamp))


def join(known: Statement, said: Statement) -> Statement:
    """Return both together. Of equal stamps `said` stands: the same event, stated by a later attempt."""
    facts = call_pb2.Call()
    facts.CopyFrom(known.facts)
    target: Message = facts
    times = dict(known.times)
    passed_over = _OF_ANALYSIS if _spoils(said, known) else frozenset[str]()
    state_stands = _STATE in said.times and _place_of_state(said) >= _place_of_state(known)
    for name, stamp in said.times.items():
        if name in passed_over:
            continue
        stands = state_stands if name in _OF_STATE else name not in times or _stands(name, stamp, times[name])
        if stands:
            target.ClearField(name)
            _copy(FIELDS[name], said.facts, target)
            times[name] = stamp
    return Statement(facts, times)


def _spoils(said: Statement, known: Statement) -> bool:
    """Say whether a degraded analysis comes after a good one of the same event: a late attempt, or a replay."""
    stamp = said.times.get(_DEGRADED)
    before = known.times.get(_DEGRADED)
    if stamp is None or before is None:
        return False
    same = (
        stamp[:2] + stamp[-1:] == before[:2] + before[-1:]
    )  # a later attempt may be the first to know `received`
    return same and said.facts.degraded and not known.facts.degraded


def without_old_state(known: Statement, said: Statement) -> Statement:
    """Return what is said, without a state that the same event gave the call already.

    Each look for a recording that has not come yet would else write the row.
    """
    if _STATE not in said.times or said.times[_STATE] != known.times.get(_STATE):
        return said
    if said.facts.state != known.facts.state or said.facts.state_reason != known.facts.state_reason:
        return said
    facts = call_pb2.Call()
    facts.CopyFrom(said.facts)
    facts.ClearField("state")
    facts.ClearField("state_reason")
    facts.ClearField("state_sequence")
    return Statement(facts, {name: stamp for name, stamp in said.times.items() if name not in _OF_STATE})


def said_state(known: Statement, event: str, state: call_pb2.Call) -> Statement | None:
    """Return the statement that an event has brought its call to a state, None when the call's is not that event's."""
    stamp = known.times.get(_STATE)
    if stamp is None or stamp.event != event:
        return None
    return stated_by(state, _OF_STATE, stamp)


def _place_of_state(statement: Statement) -> tuple[bool, bool, tuple[Any, ...], int]:
    """Return what orders states.

    That of an event without stages of its own gives way to any that has some, and the first facts of a call to
    everything; then the event's stamp decides; of one event, what its worker says is later.
    """
    stamp = statement.times.get(_STATE)
    if stamp is None:
        return (False, False, (), -1)
    facts = statement.facts
    received = facts.state == call_pb2.CALL_STATE_RECEIVED
    return (facts.state_sequence > 0, not received, tuple(stamp), facts.state_sequence)


def _stands(name: str, said: Stamp, known: Stamp) -> bool:
    # The source is the first event's; everything else is the latest one's.
    return said <= known if name == _SOURCE else said >= known


def _copy(field: FieldDescriptor, source: Message, target: Message) -> None:
    if field.is_repeated:
        getattr(target, field.name).extend(getattr(source, field.name))
    elif field.message_type is None:
        setattr(target, field.name, getattr(source, field.name))
    elif source.HasField(field.name):
        getattr(target, field.name).CopyFrom(getattr(source, field.name))
