"""What came is kept, and the URL it was signed under is made from today's setting: a wrong one can be mended."""

from __future__ import annotations

import pytest
from gateway_deliveries import TWILIO, delivery, twilio
from gateway_world import beside, opened
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline.tenant.v1 import source_pb2
from trunkline_gateway.hooks.headers import pack
from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.providers.public_urls import public_url, target_of
from trunkline_gateway.receipts import UNVERIFIED
from trunkline_runtime.errors import FailedPrecondition

FORM = {"CallSid": "CA1", "CallStatus": "completed", "AccountSid": "AC1"}
TARGET = "/hooks/s-1/call_status/?bodySHA256=&a=1"


def resolved():
    source = source_pb2.Source(name="tenants/acme/sources/s-1", provider=TWILIO)
    secrets = [source_pb2.SourceSecret(value="token")]
    return source_pb2.ResolvedSource(source=source, secrets=secrets, accepting=True, revision=1)


def sent(base, url):
    """A webhook that was signed for one base and came to a gateway that thinks it has another."""
    signed = twilio(FORM, "token", base + TARGET)
    return delivery(
        signed.body, url + TARGET, **{name.replace("-", "_"): v for name, v in signed.headers.items()}
    )


async def test_a_request_is_accepted_after_the_public_url_was_corrected(tmp_path):
    async with opened(tmp_path, resolved()) as world:
        request = sent("https://hooks.example.com", "http://hooks.example.com")
        world.rejections.keep(source_of(resolved()), "call_status", request, "wrong")
        await world.rejections.flush()
        (kept,) = await world.rejected()
        assert kept.target == TARGET
        accept = pb.AcceptRejectionRequest(name=kept.name)
        async with beside(world, tmp_path, public_url="http://hooks.example.com") as mistaken:
            with pytest.raises(FailedPrecondition, match=r"fits below https://hooks\.example\.com"):
                await mistaken.events.AcceptRejection(accept, None)
        async with beside(world, tmp_path, public_url="https://hooks.example.com/") as corrected:
            await corrected.events.AcceptRejection(accept, None)
        await world.admit()
        (event,) = await world.listed()
        assert event.event_type == "call_status"


async def test_an_unverified_request_is_judged_under_the_setting_of_the_day(tmp_path):
    request = sent("https://hooks.example.com", "http://hooks.example.com")
    async with opened(tmp_path, resolved()) as world:
        await world.receipt(
            request.body, "call_status", tenant="", verdict=UNVERIFIED, url=TARGET,
            content_type=request.headers["content-type"], headers=pack(request.headers),
        )  # fmt: skip
        await world.admit()
        (event,) = await world.listed()
        assert event.event_type == "call_status"


@pytest.mark.parametrize(
    ("kept", "target"),
    [
        ("/hooks/s-1/x?a=/hooks/", "/hooks/s-1/x?a=/hooks/"),
        ("http://old.example.com/hooks/s-1/x?a=1", "/hooks/s-1/x?a=1"),
        ("", ""),
    ],
)
def test_a_whole_url_of_long_ago_gives_its_path(kept, target):
    assert target_of(kept) == target
    assert public_url("https://new.example.com/", kept) == "https://new.example.com" + target
