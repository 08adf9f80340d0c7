"""Signatures: what verifies, what does not, and that no flipped bit ever does."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
from datetime import timedelta
from urllib.parse import parse_qsl

import pytest
from gateway_deliveries import (
    CALLRAIL,
    GENERIC,
    KEY,
    NOW,
    RECORDING,
    STANDARD,
    TWILIO,
    URL,
    WHSEC,
    b64,
    callrail,
    delivery,
    generic,
    generic_options,
    source,
    standard,
    twilio,
)
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from trunkline.tenant.v1 import source_pb2
from trunkline_gateway.providers.base import Delivery, Rejected, Secret, Source
from trunkline_gateway.providers.registry import adapter_for
from trunkline_gateway.providers.signing import hmac_digest

BODY = b'{"id": 766970532, "note": "caf\xc3\xa9"}'
SIGNED = {
    "callrail": (source(CALLRAIL), callrail(BODY)),
    "twilio": (source(TWILIO), twilio(RECORDING)),
    "standard": (source(STANDARD, WHSEC), standard(BODY)),
    "generic": (source(GENERIC, hmac=generic_options()), generic(BODY)),
}
SIGNATURES = {
    "callrail": "signature",
    "twilio": "x-twilio-signature",
    "standard": "webhook-signature",
    "generic": "x-signature",
}


def verify(of: Source, what: Delivery) -> None:
    adapter_for(of.provider).verify(of, what)


def with_header(what: Delivery, name: str, value: str | None) -> Delivery:
    headers = {key: text for key, text in what.headers.items() if key != name}
    return dataclasses.replace(what, headers=headers if value is None else {**headers, name: value})


def flip(raw: bytes, bit: int) -> bytes:
    place = bit % (len(raw) * 8)
    changed = bytearray(raw)
    changed[place // 8] ^= 1 << (place % 8)
    return bytes(changed)


@pytest.mark.parametrize("name", SIGNED)
def test_a_right_signature_is_taken(name: str) -> None:
    verify(*SIGNED[name])


@pytest.mark.parametrize("name", SIGNED)
@given(bit=st.integers(0, 10_000))
def test_a_flipped_bit_of_the_body_is_rejected(name: str, bit: int) -> None:
    of, what = SIGNED[name]
    changed = dataclasses.replace(what, body=flip(what.body, bit))
    if name == "twilio":
        try:  # it signs what the form says, so %2b for %2B is the same; what it says must not change
            said = sorted(parse_qsl(changed.body.decode(), keep_blank_values=True, errors="strict"))
        except UnicodeDecodeError:
            said = []
        if "".join(n + v for n, v in said) == "".join(n + v for n, v in sorted(RECORDING.items())):
            return
    with pytest.raises(Rejected):
        verify(of, changed)


@pytest.mark.parametrize("name", SIGNED)
@given(bit=st.integers(0, 10_000))
def test_a_flipped_bit_of_the_signature_is_rejected(name: str, bit: int) -> None:
    of, what = SIGNED[name]
    header = SIGNATURES[name]
    changed = flip(what.headers[header].encode(), bit).decode("latin-1")
    if name == "generic" and changed.lower() == what.headers[header]:
        return  # hexadecimal says the same in either case
    with pytest.raises(Rejected):
        verify(of, with_header(what, header, changed))


@pytest.mark.parametrize("name", SIGNED)
@given(value=st.text(alphabet=st.characters(codec="latin-1"), max_size=200))
def test_no_made_up_signature_is_taken(name: str, value: str) -> None:
    of, what = SIGNED[name]
    with pytest.raises(Rejected):
        verify(of, with_header(what, SIGNATURES[name], value))


@pytest.mark.parametrize("name", SIGNED)
def test_a_missing_signature_is_rejected_by_name(name: str) -> None:
    of, what = SIGNED[name]
    with pytest.raises(Rejected, match=f"(?i)header {SIGNATURES[name]} is missing"):
        verify(of, with_header(what, SIGNATURES[name], None))


@pytest.mark.parametrize("name", SIGNED)
def test_another_secret_is_rejected_without_showing_any(name: str) -> None:
    of, what = SIGNED[name]
    other = "whsec_" + base64.b64encode(b"n" * 32).decode()
    with pytest.raises(Rejected) as caught:
        verify(dataclasses.replace(of, secrets=(Secret(other),)), what)
    assert other not in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", SIGNED)
def test_an_old_secret_verifies_until_it_expires_and_not_a_moment_longer(name: str) -> None:
    of, what = SIGNED[name]
    new = Secret("whsec_" + base64.b64encode(b"n" * 32).decode())
    old = of.secrets[0].value
    later = Secret(old, NOW + timedelta(microseconds=1))
    verify(dataclasses.replace(of, secrets=(new, later)), what)
    with pytest.raises(Rejected):
        verify(dataclasses.replace(of, secrets=(new, Secret(old, NOW))), what)


@pytest.mark.parametrize("name", SIGNED)
def test_a_source_without_a_valid_secret_says_so(name: str) -> None:
    of, what = SIGNED[name]
    for secrets in ((), (Secret(""),), (Secret(of.secrets[0].value, NOW),)):
        with pytest.raises(Rejected, match="no secret that is valid now"):
            verify(dataclasses.replace(of, secrets=secrets), what)


class TestTwilio:
    def test_json_is_covered_by_the_hash_in_the_signed_url(self) -> None:
        body = b'{"CallSid": "CA1"}'
        url = f"{URL}?bodySHA256={hashlib.sha256(body).hexdigest()}"
        signature = b64(KEY.encode(), url.encode(), "sha1")
        what = delivery(body, url, x_twilio_signature=signature, content_type="application/json")
        verify(source(TWILIO), what)
        with pytest.raises(Rejected, match="bodySHA256"):
            verify(source(TWILIO), dataclasses.replace(what, body=body + b" "))

    def test_json_without_the_hash_is_rejected_although_the_url_is_signed(self) -> None:
        signature = b64(KEY.encode(), URL.encode(), "sha1")
        what = delivery(b"{}", x_twilio_signature=signature, content_type="application/json")
        with pytest.raises(Rejected, match="bodySHA256"):
            verify(source(TWILIO), what)

    def test_the_port_may_be_written_or_left_out(self) -> None:
        signed_with_port = twilio(RECORDING, url="https://hooks.example.com:443/hooks/s-1/x")
        verify(source(TWILIO), dataclasses.replace(signed_with_port, url=URL))
        verify(
            source(TWILIO),
            dataclasses.replace(twilio(RECORDING), url="https://hooks.example.com:8443/hooks/s-1/x"),
        )

    def test_another_host_is_rejected(self) -> None:
        with pytest.raises(Rejected):
            verify(
                source(TWILIO),
                dataclasses.replace(twilio(RECORDING), url="https://evil.example.com/hooks/s-1/x"),
            )

    def test_a_form_that_is_not_utf8_is_rejected(self) -> None:
        what = dataclasses.replace(twilio(RECORDING), body=b"a=\xff\xfe")
        with pytest.raises(Rejected, match="UTF-8"):
            verify(source(TWILIO), what)


class TestStandardWebhooks:
    @pytest.mark.parametrize(("seconds", "taken"), [(300, True), (-300, True), (301, False), (-301, False)])
    def test_five_minutes_are_tolerated(self, seconds: int, taken: bool) -> None:
        what = standard(BODY, sent=NOW + timedelta(seconds=seconds))
        if taken:
            verify(source(STANDARD, WHSEC), what)
        else:
            with pytest.raises(Rejected, match="300 seconds"):
                verify(source(STANDARD, WHSEC), what)

    def test_any_of_several_signatures_is_enough(self) -> None:
        what = standard(BODY)
        both = f"v1,{'A' * 43}= v1a,xyz {what.headers['webhook-signature']}"
        verify(source(STANDARD, WHSEC), with_header(what, "webhook-signature", both))

    def test_a_signature_of_another_version_is_not_enough(self) -> None:
        what = standard(BODY)
        asymmetric = what.headers["webhook-signature"].replace("v1,", "v1a,")
        with pytest.raises(Rejected):
            verify(source(STANDARD, WHSEC), with_header(what, "webhook-signature", asymmetric))

    @pytest.mark.parametrize("stamp", ["", "12x", "-5", "1e9", "²", "9" * 40])
    def test_a_timestamp_that_is_none_is_rejected(self, stamp: str) -> None:
        with pytest.raises(Rejected, match="webhook-timestamp"):
            verify(source(STANDARD, WHSEC), with_header(standard(BODY), "webhook-timestamp", stamp))

    def test_a_secret_that_is_none_is_said(self) -> None:
        with pytest.raises(Rejected, match="not whsec_"):
            verify(source(STANDARD, "whsec_!!!"), standard(BODY))


class TestGeneric:
    @pytest.mark.parametrize("hash_name", ["SHA1", "SHA256", "SHA512"])
    @pytest.mark.parametrize("encoding", ["HEX", "BASE64"])
    def test_every_hash_and_encoding(self, hash_name: str, encoding: str) -> None:
        options = generic_options(
            hash=source_pb2.HashAlgorithm.Value(f"HASH_ALGORITHM_{hash_name}"),
            encoding=source_pb2.SignatureEncoding.Value(f"SIGNATURE_ENCODING_{encoding}"),
            prefix="sig=",
        )
        digest = hmac.new(KEY.encode(), BODY, hash_name.lower()).digest()
        text = "sig=" + (digest.hex() if encoding == "HEX" else base64.b64encode(digest).decode())
        verify(source(GENERIC, hmac=options), delivery(BODY, x_signature=text))
        with pytest.raises(Rejected, match="prefix"):
            verify(source(GENERIC, hmac=options), delivery(BODY, x_signature=text[4:]))

    def test_a_timestamp_is_signed_with_the_body_and_not_too_old(self) -> None:
        options = generic_options(timestamp_header="X-Sent", tolerance=Duration(seconds=60))
        of = source(GENERIC, hmac=options)
        stamp = str(int(NOW.timestamp()) - 60)
        signature = hmac.new(KEY.encode(), f"{stamp}.".encode() + BODY, hashlib.sha256).hexdigest()
        what = delivery(BODY, x_signature=signature, x_sent=stamp)
        verify(of, what)
        with pytest.raises(Rejected, match="60 seconds"):
            verify(of, dataclasses.replace(what, received=NOW + timedelta(seconds=1)))
        with pytest.raises(Rejected, match="does not fit"):
            verify(of, with_header(what, "x-sent", str(int(stamp) + 1)))

    def test_changed_options_count_at_once(self) -> None:
        first, second = generic_options(), generic_options(header="X-Other")
        verify(source(GENERIC, hmac=first), generic(BODY))
        with pytest.raises(Rejected, match="X-Other is missing"):
            verify(source(GENERIC, hmac=second), generic(BODY))

    def test_a_source_without_options_rejects(self) -> None:
        with pytest.raises(Rejected, match=r"hmac\.header"):
            verify(source(GENERIC), generic(BODY))


@given(
    st.binary(max_size=300),
    st.sampled_from([0, 1, 2046, 2047, 2048, 4094, 4095, 65_536, 65_537]),
    st.sampled_from(["sha1", "sha256", "sha512"]),
)
def test_a_digest_taken_in_pieces_is_the_digest(key, size, algorithm):
    message = (key + b"w") * (size // (len(key) + 1) + 1)
    expected = hmac.digest(key, message[:size], algorithm)
    assert hmac_digest(key, message[:size], algorithm) == expected
    assert hmac_digest(key, message[:size], algorithm) == expected  # the prepared key is not used up
