"""The wiring of `/v1`: the public methods of every service, where each is served, and who may ask."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

import orjson
from google.longrunning import operations_pb2
from trunkline_runtime.identity import access
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.authenticator import Authenticator
from trunkline_runtime.rpc.channels import Channels

from trunkline_gateway.api.allowances import Allowances
from trunkline_gateway.api.answered import count_from_zero
from trunkline_gateway.api.credentials import Credentials
from trunkline_gateway.api.openapi.document import document
from trunkline_gateway.api.operations import HTTP_RULES
from trunkline_gateway.api.transcode.bindings import Binding, bindings_of, router_of, services_of
from trunkline_gateway.api.transcode.transcoder import Transcoder
from trunkline_gateway.hooks.limits import Buckets

PACKAGES = ("trunkline.tenant.v1", "trunkline.audio.v1", "trunkline.ai.v1", "trunkline.gateway.v1")

_OPERATIONS = "google.longrunning"


def public_bindings() -> list[Binding]:
    """Return all of `/v1`: the public methods of the suite's services, and those of operations."""
    operations = operations_pb2.DESCRIPTOR.services_by_name.values()
    return [*bindings_of(services_of(PACKAGES)), *bindings_of(operations, HTTP_RULES)]


class Addresses(Protocol):
    """Where the other services are."""

    @property
    def tenant_address(self) -> str:
        """The tenant service, host:port."""

    @property
    def audio_address(self) -> str:
        """The audio service, host:port."""

    @property
    def ai_address(self) -> str:
        """The ai service, host:port."""


def build_transcoder(
    channels: Channels,
    signer: TokenSigner,
    authenticator: Authenticator,
    addresses: Addresses,
    *,
    own_address: Callable[[], str],
    rates: Buckets | None = None,
    allowances: Allowances | None = None,
) -> Transcoder:
    """Return the ASGI application of `/v1`. `own_address` is asked at the first call: it may be bound later.

    `rates` are of tenants, by their ids; `allowances` are their hourly limits, None where those are counted before.
    """
    where: dict[str, Callable[[], str]] = dict(
        zip(
            PACKAGES,
            (
                lambda: addresses.tenant_address,
                lambda: addresses.audio_address,
                lambda: addresses.ai_address,
                own_address,
            ),
            strict=True,
        )
    )
    where[_OPERATIONS] = own_address
    bindings = public_bindings()
    count_from_zero({binding.rpc for binding in bindings})

    @functools.cache
    def described() -> bytes:
        return orjson.dumps(document(bindings))

    return Transcoder(
        router_of(bindings),
        lambda package: channels.get(where[package]()),
        Credentials(authenticator, signer),
        rules=access.TABLE,
        rates=rates,
        allowances=allowances,
        documents={"/v1/openapi.json": described},
    )
