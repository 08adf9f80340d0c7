"""The providers' own vectors, and their own Python packages as a second opinion on our signatures."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from trunkline.common.v1 import provider_pb2
from trunkline_gateway.providers.base import Delivery, Rejected, Secret, Source
from trunkline_gateway.providers.registry import adapter_for
from twilio.request_validator import RequestValidator

VECTORS = Path(__file__).parent.parent / "data" / "vectors"
FORM = "application/x-www-form-urlencoded"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def source(provider: provider_pb2.Provider.ValueType, secret: str) -> Source:
    return Source(source_id="s-1", tenant_id="acme", provider=provider, secrets=(Secret(secret),))


def vector(name: str) -> dict[str, str]:
    loaded: dict[str, str] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return loaded


def test_callrails_own_vector_verifies() -> None:
    facts = vector("callrail_post_call.signature.json")
    body = (VECTORS / facts["body_file"]).read_bytes()
    of = source(provider_pb2.PROVIDER_CALLRAIL, facts["signing_key"])
    headers = {"signature": facts["signature"], "content-type": "application/json"}
    what = Delivery(body, headers, "https://x.example.com/hooks/s-1/post_call", NOW)
    adapter = adapter_for(of.provider)
    adapter.verify(of, what)
    identity = adapter.identify(of, facts["event"], what)
    assert identity.dedup_fields == ("766970532",)
    stated = adapter.normalise(of, facts["event"], body, "application/json")
    assert stated.call.caller_number == "+12148654559"
    assert stated.call.voicemail
    assert stated.call.duration.seconds == 13
    with pytest.raises(Rejected):
        adapter.verify(of, Delivery(body + b" ", headers, what.url, NOW))


def test_twilios_own_vector_verifies() -> None:
    facts = json.loads((VECTORS / "twilio.signature.json").read_text(encoding="utf-8"))
    of = source(provider_pb2.PROVIDER_TWILIO, facts["auth_token"])
    headers = {"x-twilio-signature": facts["signature"], "content-type": FORM}
    adapter_for(of.provider).verify(
        of, Delivery(urlencode(facts["params"]).encode(), headers, facts["url"], NOW)
    )


NAMES = st.text(alphabet="ABCabc019_", min_size=1, max_size=8)
VALUES = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@given(
    params=st.dictionaries(NAMES, VALUES, min_size=1, max_size=8), port=st.sampled_from(["", ":443", ":8443"])
)
def test_what_twilios_package_signs_we_take(params: dict[str, str], port: str) -> None:
    url = f"https://hooks.example.com{port}/hooks/s-1/recording_status?a=1&b=2"
    signature = RequestValidator("token").compute_signature(url, params)
    of = source(provider_pb2.PROVIDER_TWILIO, "token")
    headers = {"x-twilio-signature": signature, "content-type": FORM}
    adapter_for(of.provider).verify(of, Delivery(urlencode(params).encode(), headers, url, NOW))


@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_of_json_bodies_twilios_package_thinks_as_we_do(text: str) -> None:
    body = json.dumps({"note": text}).encode()
    url = f"https://hooks.example.com/hooks/s-1/x?bodySHA256={hashlib.sha256(body).hexdigest()}"
    validator = RequestValidator("token")
    signature = validator.compute_signature(url, {})
    assert validator.validate(url, body.decode(), signature)
    of = source(provider_pb2.PROVIDER_TWILIO, "token")
    headers = {"x-twilio-signature": signature, "content-type": "application/json"}
    adapter = adapter_for(of.provider)
    adapter.verify(of, Delivery(body, headers, url, NOW))
    with pytest.raises(Rejected):
        adapter.verify(of, Delivery(body + b" ", headers, url, NOW))


@given(body=st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_what_the_standard_webhooks_package_signs_we_take(body: str) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signature = Webhook(secret).sign("msg_1", NOW, body)
    of = source(provider_pb2.PROVIDER_STANDARD_WEBHOOKS, secret)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": signature,
    }
    adapter = adapter_for(of.provider)
    adapter.verify(of, Delivery(body.encode(), headers, "https://x.example.com", NOW))
    with pytest.raises(Rejected):
        adapter.verify(of, Delivery(body.encode() + b"x", headers, "https://x.example.com", NOW))
