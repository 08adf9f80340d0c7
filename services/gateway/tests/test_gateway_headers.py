"""Headers: what verifies a delivery again is kept, what a sender shows besides is not."""

from __future__ import annotations

import pytest
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2
from trunkline_gateway.hooks.headers import kept_of, kept_of_anybody, pack, unpack
from trunkline_gateway.providers.base import Source

CREDENTIALS = {
    "authorization": "Bearer s", "cookie": "s", "proxy-authorization": "s", "x-api-key": "s", "x-auth-token": "s",
    "x-forwarded-for": "s", "api-key": "s", "x-access-token": "s", "secret": "s", "x-amz-security-token": "s",
}  # fmt: skip
SIGNED = {
    provider_pb2.PROVIDER_CALLRAIL: {"signature"},
    provider_pb2.PROVIDER_TWILIO: {"x-twilio-signature"},
    provider_pb2.PROVIDER_STANDARD_WEBHOOKS: {
        "webhook-id", "webhook-timestamp", "webhook-signature", "svix-id", "svix-timestamp", "svix-signature",
    },
    provider_pb2.PROVIDER_GENERIC_HMAC: {"x-acme-sig", "x-acme-time"},
}  # fmt: skip
HMAC = source_pb2.HmacOptions(header="X-Acme-Sig", timestamp_header="X-Acme-Time")


def source(provider: int, hmac: source_pb2.HmacOptions | None = HMAC) -> Source:
    return Source("s-1", "acme", provider, (), hmac=hmac)


@pytest.mark.parametrize(("provider", "names"), SIGNED.items())
def test_of_a_known_source_the_signature_and_the_content_type_are_kept(provider, names):
    every = CREDENTIALS | dict.fromkeys(set().union(*SIGNED.values()), "1") | {"content-type": "text/plain"}
    assert set(kept_of(source(provider), every)) == names | {"content-type"}


def test_a_source_that_names_a_credential_keeps_none():
    named = source_pb2.HmacOptions(header="Authorization")
    assert kept_of(source(provider_pb2.PROVIDER_GENERIC_HMAC, named), CREDENTIALS) == {}
    assert kept_of(source(provider_pb2.PROVIDER_GENERIC_HMAC, None), CREDENTIALS) == {}


@pytest.mark.parametrize("value", ["HMAC-SHA256 0123", "HMAC q83v", "0123abcd"])
def test_a_signature_in_the_authorization_header_is_kept_of_a_source_that_signs_there(value):
    named = source_pb2.HmacOptions(header="Authorization", prefix="HMAC-SHA256 ")
    assert kept_of(source(provider_pb2.PROVIDER_GENERIC_HMAC, named), {"authorization": value}) == {
        "authorization": value
    }
    assert kept_of(source(provider_pb2.PROVIDER_GENERIC_HMAC), {"authorization": value}) == {}


def test_of_an_unknown_source_only_what_is_called_as_signatures_are_is_kept():
    signatures = {"signature", "x-twilio-signature", "webhook-id", "webhook-timestamp", "webhook-signature",
                  "svix-id", "svix-timestamp", "svix-signature", "x-hub-signature-256", "x-acme-hmac-sha256",
                  "content-type"}  # fmt: skip
    assert set(kept_of_anybody(CREDENTIALS | dict.fromkeys(signatures, "1"))) == signatures


def test_headers_survive_packing():
    headers = {"content-type": "a: b", "x": ""}
    assert unpack(pack(headers)) == headers
