"""Recordings that come shorter than their webhook says: fetched again, then kept, and marked for all to see."""

from __future__ import annotations

from trunkline.audio.v1 import recording_service_pb2, transcript_pb2

from trunkline_gateway.providers.base import Facts

ATTEMPTS = 4
"""From this run of the fetch on what comes is taken: some providers never have the rest."""
# Providers round, and trim silence: so much may be missing of a whole one.
_PART = 0.1
_SECONDS = 1.0


def ask_for_whole(request: recording_service_pb2.FetchRecordingRequest, facts: Facts) -> None:
    """Have what is too short refused."""
    least = _least_seconds(facts)
    if least > 0:
        request.least_duration.FromMilliseconds(int(least * 1_000))


def warnings(facts: Facts, transcript: transcript_pb2.Transcript) -> tuple[str, ...]:
    """Return what is to be said of a recording, going by how long the transcript found it."""
    if not transcript.HasField("duration"):
        return ()
    there = transcript.duration.ToTimedelta().total_seconds()
    if there >= _least_seconds(facts):
        return ()
    announced = facts.call.recording_duration.ToTimedelta().total_seconds()
    return (f"TRUNCATED: the recording has {there:.1f} s of the {announced:g} s that the webhook states",)


def _least_seconds(facts: Facts) -> float:
    """Return how long a whole recording is at least; 0 or less when nobody said."""
    if "recording_duration" not in facts.stated:
        return 0.0
    announced = facts.call.recording_duration.ToTimedelta().total_seconds()
    return announced * (1 - _PART) - _SECONDS
