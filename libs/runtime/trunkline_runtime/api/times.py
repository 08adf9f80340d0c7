"""Moments between protobuf and Python."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.timestamp_pb2 import Timestamp

_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_MOST_DURATION = 315_576_000_000
_NANOS = 1_000_000_000
NOT_A_TIME = "must be between the years 1 and 9999, its nanos from 0 to 999999999"
NOT_A_DURATION = "must be at most 10000 years, its nanos below a second and of the same sign as its seconds"


def timestamp(moment: datetime) -> Timestamp:
    """Return an aware moment as protobuf's Timestamp."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def utc(stamp: Timestamp) -> datetime:
    """Return protobuf's Timestamp as an aware moment, cut to microseconds. Raises ValueError out of range."""
    try:
        return stamp.ToDatetime(UTC)
    except OverflowError as error:
        raise ValueError("is not between the years 1 and 9999") from error


def given_time(message: Any, field: str) -> datetime | None:
    """Return a message's Timestamp field as an aware moment, None when it is not set."""
    return getattr(message, field).ToDatetime(UTC) if message.HasField(field) else None


def odd_times(message: Any, path: str = "") -> list[tuple[str, str]]:
    """Return what is wrong with the Timestamps and Durations of a message: the path of each, and what it must be.

    Their two numbers may hold anything, and no rule of a proto can say that they must not. What is odd can be stored,
    and then neither be read nor be written as JSON. Repeated fields are not looked into: only our own services send
    times there, the 20,000 of a transcript for example.
    """
    problems: list[tuple[str, str]] = []
    for name, check in _ways(message.DESCRIPTOR):
        if not message.HasField(name):
            continue
        held = getattr(message, name)
        if check is None:
            problems += odd_times(held, f"{path}{name}.")
        elif said := check(held):
            problems.append((path + name, said))
    return problems


def _time_problem(stamp: Any) -> str:
    good = _FIRST_SECOND <= stamp.seconds <= _LAST_SECOND and 0 <= stamp.nanos < _NANOS
    return "" if good else NOT_A_TIME


def _duration_problem(duration: Any) -> str:
    seconds, nanos = duration.seconds, duration.nanos
    good = -_MOST_DURATION <= seconds <= _MOST_DURATION and -_NANOS < nanos < _NANOS and seconds * nanos >= 0
    return "" if good else NOT_A_DURATION


_Check = Callable[[Any], str]
_CHECKS: dict[str, _Check] = {
    "google.protobuf.Timestamp": _time_problem,
    "google.protobuf.Duration": _duration_problem,
}


@cache
def _ways(descriptor: Descriptor) -> tuple[tuple[str, _Check | None], ...]:
    """Return the fields that are a Timestamp or Duration with their checks, and without one those that lead to some."""
    found = []
    for field in descriptor.fields:
        held: Descriptor | None = field.message_type
        if held is not None and not field.is_repeated and _leads(held, frozenset()):
            found.append((field.name, _CHECKS.get(held.full_name)))
    return tuple(found)


def _leads(descriptor: Descriptor, above: frozenset[str]) -> bool:
    if descriptor.full_name in _CHECKS or descriptor.full_name in above:
        return descriptor.full_name in _CHECKS
    above |= {descriptor.full_name}
    return any(
        _leads(field.message_type, above)
        for field in descriptor.fields
        if field.message_type is not None and not field.is_repeated
    )
