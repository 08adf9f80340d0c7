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


async def test_what_strangers_send_takes_nothing_of_the_ceiling_while_it_waits():
    """Each is compressed, so that it waits for a thread; their sender hangs up and sends the next."""
    world = World(resolved(), rate=0.001, burst=20)
    bomb = gzip.compress(b"a" * 1_000)
    strangers = [
        asyncio.create_task(world.post(chunks=(bomb,), headers=[*signed(b"forged"), GZIP]))
        for _ in range(200)
    ]
    await asyncio.sleep(0)
    answers = [(await world.post(headers=signed(b"{}")))[0] for _ in range(20)]
    assert answers == [202] * 20
    assert {(await task)[0] for task in strangers} <= {401, 429, 503}


async def test_what_takes_long_and_does_not_verify_gets_little_of_a_processor(monkeypatch):
    world, ran = twilio_world(), 0

    def verify(_adapter, _source, _delivery):
        nonlocal ran
        ran += 1
        time.sleep(0.1)
        raise Rejected("no")

    monkeypatch.setattr(Twilio, "verify", verify)
    heavy = b"&".join([b"a=1"] * 102)
    answers = [(await world.post(chunks=(heavy,), headers=OF_FORM))[0] for _ in range(20)]
    assert set(answers[:3]) == {401}
    assert set(answers[-4:]) == {503}
    assert ran < 8


async def test_a_tenants_bytes_a_second_are_counted_after_they_are_decompressed():
    world = World(resolved(), most=1 << 20, volume=2.5 * (1 << 20))
    body = gzip.compress(b"{" + b" " * ((1 << 20) - 2) + b"}")
    answers = [(await world.post(chunks=(body,), headers=[*signed(body), GZIP]))[0] for _ in range(4)]
    assert answers == [202, 202, 202, 429]
    crowd = World(resolved(), most=1 << 20, volume=2.5 * (1 << 20))
    posts = (crowd.post(chunks=(body,), headers=[*signed(body), GZIP]) for _ in range(20))
    assert [status for status, _, _ in await asyncio.gather(*posts)].count(202) == 3
    assert (await world.post(chunks=(body,), headers=[*signed(b"forged"), GZIP]))[0] == 429


async def test_one_piece_of_each_tenant_at_a_time_and_the_tenants_take_turns():
    aside, gate, done = Aside(), threading.Event(), []

    def work(name):
        gate.wait(5)
        done.append(name)

    tasks = [
        asyncio.create_task(aside.run(name[0], name, 1, work, name))
        for name in ("a1", "a1", "a2", "a1", "b1")
    ]
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(*tasks)
    assert done.index("b1") == 1
    assert sorted(done) == ["a1", "a1", "a1", "a2", "b1"]


async def test_what_waits_of_a_source_is_bounded_in_number_and_bytes():
    aside, gate = Aside(most_waiting=3, most_waiting_bytes=100), threading.Event()
    tasks = [asyncio.create_task(aside.run("t", "a", 50, gate.wait, 5)) for _ in range(2)]
    tasks += [asyncio.create_task(aside.run("t", "b", 1, gate.wait, 5)) for _ in range(3)]
    await asyncio.sleep(0)
    for source_id in "ab":
        with pytest.raises(Crowded):
            await aside.run("t", source_id, 1, gate.wait, 5)
    gate.set()
    await asyncio.gather(*tasks)
    assert await aside.run("t", "a", 1_000, int, "7") == 7, "one is always taken"


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
