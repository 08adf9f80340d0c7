"""What the gateway asks of an adapter (verify, identify, state the facts), and which one serves which provider."""

from __future__ import annotations

from typing import Protocol

from trunkline.common.v1 import provider_pb2

from trunkline_gateway.providers.base import Delivery, Facts, Identity, Source
from trunkline_gateway.providers.call_facts import CallFacts
from trunkline_gateway.providers.callrail.adapter import CallRail
from trunkline_gateway.providers.generic import GenericHmac
from trunkline_gateway.providers.standard import StandardWebhooks
from trunkline_gateway.providers.twilio.adapter import Twilio


class Adapter(Protocol):
    """One provider's rules. Adapters are stateless; time comes with the delivery."""

    resends: bool
    """Whether its senders are known to send again what was answered 429."""
    form_bytes: int
    """The largest form, in bytes, of a provider that signs a form's fields; 0 where the bytes alone are signed."""
    identity_headers: tuple[str, ...]
    """The headers that `identify` reads, lower-case: who keeps a verified delivery keeps these too."""

    def signature_headers(self, source: Source) -> tuple[str, ...]:
        """Return the headers that `verify` reads, lower-case: who keeps a delivery to verify it later keeps these."""
        ...

    def verify(self, source: Source, delivery: Delivery) -> None:
        """Raise `Rejected` unless one of the source's secrets signed the delivery (constant-time)."""
        ...

    def identify(self, source: Source, event_type: str, delivery: Delivery) -> Identity:
        """Say which event a verified delivery is. Raises `Malformed`."""
        ...

    def normalise(self, source: Source, event_type: str, body: bytes, content_type: str) -> Facts:
        """State the facts of a verified payload. Raises `Malformed`."""
        ...

    def looked_up(self, source: Source, body: bytes) -> CallFacts:
        """State what the answer to a `Lookup` says of the call. Raises `Malformed`."""
        ...


_ADAPTERS: dict[int, Adapter] = {
    provider_pb2.PROVIDER_CALLRAIL: CallRail(),
    provider_pb2.PROVIDER_TWILIO: Twilio(),
    provider_pb2.PROVIDER_STANDARD_WEBHOOKS: StandardWebhooks(),
    provider_pb2.PROVIDER_GENERIC_HMAC: GenericHmac(),
}


def adapter_for(provider: int) -> Adapter:
    """Return the adapter of a `trunkline.common.v1.Provider`. Raises LookupError for one that has none."""
    return _ADAPTERS[provider]
