"""Which adapter serves which provider."""

from __future__ import annotations

from trunkline.common.v1 import provider_pb2

from trunkline_gateway.providers.base import Adapter
from trunkline_gateway.providers.callrail import CallRail
from trunkline_gateway.providers.generic import GenericHmac
from trunkline_gateway.providers.standard import StandardWebhooks
from trunkline_gateway.providers.twilio import Twilio

_ADAPTERS: dict[int, Adapter] = {
    provider_pb2.PROVIDER_CALLRAIL: CallRail(),
    provider_pb2.PROVIDER_TWILIO: Twilio(),
    provider_pb2.PROVIDER_STANDARD_WEBHOOKS: StandardWebhooks(),
    provider_pb2.PROVIDER_GENERIC_HMAC: GenericHmac(),
}


def adapter_for(provider: int) -> Adapter:
    """Return the adapter of a `trunkline.common.v1.Provider`. Raises LookupError for one that has none."""
    return _ADAPTERS[provider]
