"""Who speaks on which channel of a recording with two, as the source says and the call's direction."""

from __future__ import annotations

from trunkline.audio.v1 import transcript_pb2
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2

from trunkline_gateway.providers.base import Source

_AGENT_FIRST = (transcript_pb2.SPEAKER_AGENT, transcript_pb2.SPEAKER_CUSTOMER)
_CUSTOMER_FIRST = (transcript_pb2.SPEAKER_CUSTOMER, transcript_pb2.SPEAKER_AGENT)

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
