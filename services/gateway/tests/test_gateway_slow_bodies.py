"""The worst body that a stranger can send costs the event loop next to nothing, and its source one thread."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from dataclasses import replace

import pytest
from gateway_deliveries import (
    CALLRAIL,
    FORM,
    GENERIC,
    NOW,
    RECORDING,
    STANDARD,
    TWILIO,
    delivery,
    generic_options,
    source,
    twilio,
)
from gateway_sources import SECRET, resolved
from test_gateway_encodings import GZIP
from test_gateway_receive import World, signed
from trunkline_gateway.hooks.aside import Aside, Crowded
from trunkline_gateway.providers.base import Malformed, Rejected, Secret, TooLarge
from trunkline_gateway.providers.registry import adapter_for
from trunkline_gateway.providers.twilio.adapter import Twilio

MOST = 64 << 10
OF_FORM = [(b"content-type", FORM.encode()), (b"x-twilio-signature", b"wrong")]


def twilio_world(**limits):
    of_twilio = resolved()
    of_twilio.source.provider = TWILIO
    return World(of_twilio, **{"most": 1 << 20, **limits})


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"a=" + b"%41" * 300_000, []),
        (b"a=" + b"%41" * 300_000, [(b"content-length", b"900002")]),
        (gzip.compress(b"a=" + b"%41" * 300_000), [GZIP]),
    ],
    ids=["plain", "declared", "gzip"],
)
async def test_a_form_over_64_kb_is_413_and_names_the_bound(body, headers):
    world = twilio_world()
    status, _, text = await world.post(chunks=(body,), headers=[*OF_FORM, *headers])
    assert status == 413
    assert str(MOST) in text.decode()
    assert world.kept.rows == []


async def test_a_form_without_a_type_has_the_same_bound_and_costs_the_sender_nothing():
    world = twilio_world(rate=0.001, burst=2)
    large = b"a=" + b"%41" * 30_000
    for _ in range(5):
        assert (await world.post(chunks=(large,), headers=[OF_FORM[1]]))[0] == 413
    sent = twilio(RECORDING, SECRET, "https://hooks.example.com/hooks/s-1/post_call")
    headers = [(name.encode(), value.encode()) for name, value in sent.headers.items()]
    assert (await world.post(chunks=(sent.body,), headers=headers))[0] == 202


def test_a_large_form_is_not_split_later_either():
    """A captured form can be made larger by saying its fields again: its signature still fits."""
    sent = twilio(RECORDING)
    padded = replace(sent, body=sent.body + b"&RecordingSource=DialVerb" * 900 + b"&" * MOST)
    adapter = adapter_for(TWILIO)
    with pytest.raises(TooLarge):
        adapter.verify(source(TWILIO), padded)
    with pytest.raises(Malformed, match="65536 bytes"):
        adapter.identify(source(TWILIO), "recording_status", padded)
    with pytest.raises(Malformed, match="65536 bytes"):
        adapter.normalise(source(TWILIO), "recording_status", padded.body, FORM)


@pytest.mark.parametrize(
    ("body", "aside"),
    [
        (b"a=1&b=%41", False),
        (b"&".join([b"a=1"] * 102), True),
        (b"a=" + b"%41" * 101, True),
        (b"a=" + b"x" * 2_100, True),
    ],
    ids=["light", "fields", "escapes", "long"],
)
async def test_a_form_that_is_slow_to_split_is_verified_off_the_loop(body, aside, monkeypatch):
    ran_in = []

    def verify(_adapter, _source, _delivery):
        ran_in.append(threading.current_thread() is threading.main_thread())
        raise Rejected("no")

    monkeypatch.setattr(Twilio, "verify", verify)
    assert (await twilio_world().post(chunks=(body,), headers=OF_FORM))[0] == 401
    assert ran_in == [not aside]


async def test_a_source_over_its_ceiling_is_told_before_anything_is_verified(monkeypatch):
    world = World(resolved(), rate=0.001, burst=1)
    assert (await world.post(headers=signed(b"{}")))[0] == 202
    status, _, _ = await world.post(headers=signed(b"forged"))
    assert (status, world.kept.rows) == (429, [])


async def test_of_each_source_one_thread_works_and_the_others_go_on():
    aside, gate, started = Aside(), threading.Event(), []

    def work(name):
        started.append(name)
        gate.wait(5)

    tasks = [asyncio.create_task(aside.run(name, 1, work, name)) for name in ("a", "a", "a", "b")]
    async with asyncio.timeout(5):
        while len(started) < 2:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert sorted(started) == ["a", "b"]
    gate.set()
    await asyncio.gather(*tasks)
    assert sorted(started) == ["a", "a", "a", "b"]


async def test_what_waits_of_a_source_is_bounded_in_bytes():
    aside, gate = Aside(most_waiting_bytes=100), threading.Event()
    tasks = [asyncio.create_task(aside.run("a", 50, gate.wait, 5)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Crowded):
        await aside.run("a", 1, gate.wait, 5)
    gate.set()
    await asyncio.gather(*tasks)
    assert await aside.run("a", 1_000, int, "7") == 7, "one is always taken"


SIGNATURES = " ".join(["v1,a"] * 7_000)
QUERY = "?" + "a=%41&" * 5_000
WORST = {
    "callrail_32_kb": (CALLRAIL, delivery(b" " * 32_767, signature="a")),
    "generic_32_kb": (GENERIC, delivery(b" " * 32_767, x_signature="a " * 15_000)),
    "standard_signatures": (
        STANDARD,
        delivery(
            b"{}",
            webhook_id="m",
            webhook_timestamp=str(int(NOW.timestamp())),
            webhook_signature=SIGNATURES,
        ),
    ),
    "twilio_query": (TWILIO, delivery(b"{}", "https://h/x" + QUERY, x_twilio_signature="a")),
    "twilio_form": (
        TWILIO,
        delivery(b"a=" + b"%41" * 100 + b"x" * 1_700, x_twilio_signature="a", content_type=FORM),
    ),
}


@pytest.mark.parametrize(("provider", "request_"), WORST.values(), ids=WORST)
def test_the_worst_that_is_verified_on_the_loop_is_quick(provider, request_):
    secrets = [Secret("whsec_" + "A" * 32 if provider == STANDARD else f"secret-{n}") for n in range(4)]
    one = source(provider, *secrets, hmac=generic_options() if provider == GENERIC else None)
    took = []
    for _ in range(5):
        began = time.thread_time()
        with pytest.raises(Rejected):
            adapter_for(provider).verify(one, request_)
        took.append(time.thread_time() - began)
    assert min(took) < 0.002
