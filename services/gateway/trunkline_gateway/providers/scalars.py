"""One value of a payload as text, time or duration, given in any of the types that senders use for it.

What cannot be read raises `Malformed`, which names the field and what is allowed, never what came.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from trunkline_gateway.providers.base import Malformed

TEXT_MOST = 2_000
CONTENT_MOST = 100_000
_DURATION_MOST_SECONDS = 31 * 86_400
_TIME_MOST = 100
_UNIX = re.compile(r"\d{9,11}(\.\d{1,9})?|\d{13}", re.ASCII)
# Seconds are below this until the year 5138; what is above is milliseconds.
_LEAST_MILLISECONDS = 1e11


def clean(value: str, most: int) -> str:
    """Return text that any store takes: no NUL, no space around it, at most so many characters."""
    return value.replace("\0", "").strip()[:most]


def is_rounded(value: Any) -> bool:
    """Tell whether a parsed value is a number that may not be the one that was written."""
    return isinstance(value, float) and not (value.is_integer() and abs(value) < 2**53)


def as_text(value: Any, name: str, most: int = TEXT_MOST) -> str:
    """Return a scalar as text. Raises `Malformed` for objects and lists."""
    if isinstance(value, str):
        return clean(value, most)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if is_rounded(value) else str(int(value))
    raise Malformed(f"{name} must be text")


def as_time(value: Any, name: str) -> datetime:
    """Return a time given as ISO 8601 text (UTC when it names no zone), an RFC 2822 date, or unix (milli)seconds."""
    moment: datetime | None = None
    try:
        if isinstance(value, str):
            text = value.strip()[:_TIME_MOST]
            if _UNIX.fullmatch(text):
                moment = _from_unix(float(text))
            elif text[:1].isdigit():
                moment = datetime.fromisoformat(text)
            else:
                moment = parsedate_to_datetime(text)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            moment = _from_unix(value)
        if moment is not None:
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError, TypeError, IndexError):
        moment = None
    if moment is None or moment.year < 1971 or moment.year > 9998:
        raise Malformed(f"{name} must be an ISO 8601 time or unix seconds")
    return moment


def _from_unix(number: float) -> datetime:
    return datetime.fromtimestamp(number / 1000 if number >= _LEAST_MILLISECONDS else number, UTC)


def as_duration(value: Any, name: str) -> Duration:
    """Return seconds, given as a number or as text, as a duration."""
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        if isinstance(value, str) and len(value) > _TIME_MOST:
            raise ValueError
        seconds = float(value)
        if not (math.isfinite(seconds) and 0 <= seconds <= _DURATION_MOST_SECONDS):
            raise ValueError
    except (ValueError, OverflowError):
        raise Malformed(f"{name} must be seconds from 0 to {_DURATION_MOST_SECONDS}") from None
    return Duration(seconds=int(seconds), nanos=int((seconds % 1) * 1_000) * 1_000_000)


def timestamp(moment: datetime) -> Timestamp:
    """Return a time as protobuf writes it."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made
