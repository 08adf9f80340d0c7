"""What the metrics say at a start: it is no event, and the first event after it is one."""

from __future__ import annotations

import math
import runpy
import socket
from pathlib import Path

import httpx
import pytest
from gateway_world import make_config
from prometheus_client import REGISTRY
from trunkline_gateway import standby
from trunkline_gateway.api.answered import ANSWERED
from trunkline_gateway.api.app import build_transcoder, public_bindings
from trunkline_gateway.api.credentials import Credentials
from trunkline_gateway.api.media.app import READ, UPLOAD, media_api
from trunkline_gateway.hooks.limits import Buckets, Limits
from trunkline_gateway.hooks.receiver import RECEIPTS, Receiver
from trunkline_gateway.hooks.unverified import Unverified
from trunkline_gateway.jobs import depth
from trunkline_runtime.identity import access
from trunkline_runtime.identity.callers import Caller
from trunkline_runtime.identity.links import LinkSigner
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.testing import KEY_FOLDER, value_of


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_dead_letters_are_not_0_before_they_were_counted() -> None:
    gauge = runpy.run_path(depth.__file__)["DEAD_LETTERS"]
    assert math.isnan(value_of(gauge))


@pytest.mark.parametrize("reason", ["too_many_connections", "too_many_bodies"])
def test_what_is_refused_because_the_edge_is_full_is_counted_from_0_on(reason: str) -> None:
    assert shown("trunkline_http_refused_total", reason=reason) is not None


class Nobody:
    """An authenticator that may not be asked."""

    async def authenticate(self, token: str) -> Caller:
        raise AssertionError


async def test_every_rpc_of_the_api_is_counted_from_0_on(tmp_path: Path) -> None:
    ANSWERED.clear()
    config, signer = make_config(tmp_path), TokenSigner(KEY_FOLDER, "gateway")
    channels = Channels(signer)
    api = build_transcoder(channels, signer, Nobody(), config, own_address=lambda: "127.0.0.1:1")
    media_api(
        api,
        channels.get(config.audio_address),
        authenticate=Credentials(Nobody(), signer),
        signer=signer,
        links=LinkSigner(KEY_FOLDER, "audio", reader="gateway"),
        rules=access.TABLE,
        public_url=config.public_url,
    )
    await channels.close()
    rpcs = {binding.rpc for binding in public_bindings()} | {UPLOAD, READ, "none"}
    wanted = {(rpc, status) for rpc in rpcs for status in ("200", "500", "501", "503", "504")}
    found = {
        (one.labels["rpc"], one.labels["status"]): one.value
        for family in ANSWERED.collect()
        for one in family.samples
    }
    assert found == dict.fromkeys(wanted, 0.0)


@pytest.mark.parametrize("provider", ["callrail", "twilio", "unknown"])
def test_webhooks_that_are_not_taken_are_counted_from_0_on(provider: str) -> None:
    limits = Limits(Unverified(1, 1), *(Buckets(1.0, 1.0, lambda: 0.0) for _ in range(3)))
    RECEIPTS.clear()
    Receiver(None, None, None, limits, public_url="", max_body_bytes=1, admit_soon=lambda: None)  # type: ignore[arg-type]
    answers = {"busy", "store_unavailable", "source_unknown", "internal"}
    answers.add("unverified" if provider == "unknown" else "verification_busy")
    for answer in answers:
        assert shown("trunkline_receipts_total", provider=provider, answer=answer) == 0


@pytest.mark.parametrize(
    ("path", "name", "labels"),
    [
        ("/v1/tenants", "trunkline_api_requests_total", {"rpc": "none", "status": "503"}),
        ("/hooks/s/e", "trunkline_receipts_total", {"provider": "unknown", "answer": "store_not_ready"}),
    ],
)
async def test_what_is_asked_of_a_gateway_that_waits_for_its_store_is_counted(
    path: str, name: str, labels: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    async with standby.answering(address, lambda: "no store"), httpx.AsyncClient() as client:
        before = shown(name, **labels)
        assert before is not None, "counted from 0 on"
        answer = await client.post(f"http://{address}{path}")
    assert (answer.status_code, shown(name, **labels)) == (503, before + 1)
