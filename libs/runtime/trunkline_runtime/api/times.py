"""Moments between protobuf and Python."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp


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
