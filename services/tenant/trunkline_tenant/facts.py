"""Merging what events say about a call: pure, and the same in any order of arrival.

A `Statement` is what one event says, or what several together say. Joining two takes each field from the one
with the greater stamp, so joining is associative and commutative and repeating changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from trunkline.tenant.v1 import call_pb2

# The event's time in microseconds since 1970, its rank, its id: no two events share one.
Stamp = tuple[int, int, str]

_DERIVED = {"lead", "last_event_time", "create_time", "update_time", "etag", "events"}
# Always stated, whatever the mask says; those that make the call's identity do not merge.
_IDENTITY = {"name", "provider", "provider_account", "provider_call_id"}
_SOURCE = "source"
_DEGRADED = "degraded"
# What comes from an analysis: from a good one or from a degraded one, never some of each. A lesser engine may not
# analyse a language that the configured one does, so whether the call is reliable comes along.
_OF_ANALYSIS = frozenset({
    "analysis", "spam", "sentiment", "intent", "lead_level", "lead_score", "summary", _DEGRADED, "analyze_time",
    "unreliable", "unreliable_reason",
})  # fmt: skip

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
    passed_over = _OF_ANALYSIS if _spoils(said, known) else ()
    for name, stamp in said.times.items():
        if name in passed_over:
            continue
        if name not in times or _stands(name, stamp, times[name]):
            target.ClearField(name)
            _copy(FIELDS[name], said.facts, target)
            times[name] = stamp
    return Statement(facts, times)


def _spoils(said: Statement, known: Statement) -> bool:
    """Say whether a degraded analysis comes after a good one of the same event: a late attempt, or a replay."""
    stamp = said.times.get(_DEGRADED)
    same = stamp is not None and stamp == known.times.get(_DEGRADED)
    return same and said.facts.degraded and not known.facts.degraded


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
