"""What a webhook and its source tell of a recording: who speaks on which channel, and how long a whole one is.

A recording that comes shorter than its webhook says is fetched again, then kept, and marked for all to see.
"""

from __future__ import annotations

from trunkline.audio.v1 import recording_service_pb2, transcript_pb2
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2

from trunkline_gateway.providers.base import Facts, Source

ATTEMPTS = 4
"""From this run of the fetch on what comes is taken: some providers never have the rest."""
# Providers round, and trim silence: so much may be missing of a whole one.
_PART = 0.1
_SECONDS = 1.0

_AGENT_FIRST = (transcript_pb2.SPEAKER_AGENT, transcript_pb2.SPEAKER_CUSTOMER)
_CUSTOMER_FIRST = (transcript_pb2.SPEAKER_CUSTOMER, transcript_pb2.SPEAKER_AGENT)

EMPTY_WARNING = "RECORDING_EMPTY: the provider's recording has no bytes"

Speakers = tuple[transcript_pb2.Speaker.ValueType, ...]


def channel_speakers(source: Source, direction: int) -> Speakers:
    """Return the speakers of the first and the second channel; none where the audio service's default holds."""
    customer_called = direction != provider_pb2.DIRECTION_OUTBOUND
    match source.channel_roles:
        case source_pb2.CHANNEL_ROLES_AGENT_FIRST:
            return _AGENT_FIRST
        case source_pb2.CHANNEL_ROLES_CUSTOMER_FIRST:
            return _CUSTOMER_FIRST
        case source_pb2.CHANNEL_ROLES_CALLER_FIRST:
            return _CUSTOMER_FIRST if customer_called else _AGENT_FIRST
        case source_pb2.CHANNEL_ROLES_CALLEE_FIRST:
            return _AGENT_FIRST if customer_called else _CUSTOMER_FIRST
    # The first channel of Twilio's recordings is the parent call's leg: the customer's, whoever placed the call.
    return _CUSTOMER_FIRST if source.provider == provider_pb2.PROVIDER_TWILIO else ()


def ask_for_whole(request: recording_service_pb2.FetchRecordingRequest, facts: Facts) -> None:
    """Have what is too short refused."""
    least = _least_seconds(facts)
    if least > 0:
        request.least_duration.FromMilliseconds(int(least * 1_000))


def truncation(facts: Facts, transcript: transcript_pb2.Transcript) -> tuple[str, ...]:
    """Return the warnings about a recording that is too short, going by how long the transcript found it."""
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
