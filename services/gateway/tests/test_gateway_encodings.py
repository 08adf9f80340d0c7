"""Webhooks that come compressed: whatever their sender signs, they are read, within the limit, and kept as written."""

from __future__ import annotations

import gc
import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
from gateway_sources import resolved
from gateway_world import opened
from test_gateway_receive import NOW, World, signed
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline_gateway.hooks.encodings import OpenedTooLarge, decompressed, verified
from trunkline_gateway.hooks.headers import pack
from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.providers.base import Delivery, Malformed, Rejected
from trunkline_gateway.receipts import UNVERIFIED

GZIP = (b"content-encoding", b"gzip")
BODY = json.dumps({"resource_id": "CAL1", "duration": 17}).encode()
PACKED = gzip.compress(BODY)


def lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return pack({name.decode(): value.decode() for name, value in headers})


@pytest.mark.parametrize("over", [PACKED, BODY], ids=["signed as sent", "signed as written"])
@pytest.mark.parametrize("name", [b"gzip", b"GZIP", b"x-gzip", b"identity, gzip", b"utf-8,gzip"])
async def test_a_compressed_body_is_verified_and_kept_as_written(over: bytes, name: bytes) -> None:
    world = World(resolved("s-1"))
    status, _, _ = await world.post(chunks=(PACKED,), headers=[*signed(over), (b"content-encoding", name)])
    assert status == 202
    assert [row.body for row in world.inbox.rows] == [BODY]


async def test_what_says_that_it_is_compressed_and_is_not_is_taken_as_it_is() -> None:
    world = World(resolved("s-1"))
    status, _, _ = await world.post(chunks=(BODY,), headers=[*signed(BODY), GZIP])
    assert (status, world.inbox.rows[0].body) == (202, BODY)


@pytest.mark.parametrize("name", [b"identity", b"none", b"UTF-8", b"utf8", b" , "])
async def test_a_name_that_is_no_compression_is_none(name: bytes) -> None:
    world = World(resolved("s-1"))
    status, _, _ = await world.post(chunks=(BODY,), headers=[*signed(BODY), (b"content-encoding", name)])
    assert (status, world.inbox.rows[0].body) == (202, BODY)


@pytest.mark.parametrize("encoding", [b"br", b"deflate", b"gzip, gzip", b"zstd", b"\xa0" * 2048 + b"gzip"])
async def test_another_encoding_is_415_and_says_which_are_taken(encoding: bytes) -> None:
    for world in (World(resolved("s-1")), World()):
        status, _, said = await world.post(headers=[*signed(b"{}"), (b"content-encoding", encoding)])
        assert status == 415
        assert b"must be gzip, identity or missing" in said
        assert not world.inbox.rows


async def test_one_that_was_compressed_by_a_stranger_is_401_and_kept_as_sent() -> None:
    world = World(resolved("s-1"))
    status, _, _ = await world.post(chunks=(PACKED,), headers=[*signed(b"other"), GZIP])
    assert status == 401
    assert len(world.kept.rows) == 1


async def test_one_that_grows_over_the_limit_is_413_and_takes_little_memory() -> None:
    world = World(resolved("s-1"))
    bomb = gzip.compress(b" " * 600_000)
    assert len(bomb) < 1000
    status, _, said = await world.post(chunks=(bomb,), headers=[*signed(bomb), GZIP])
    assert status == 413
    assert b"1000 bytes when it is decompressed" in said
    large = gzip.compress(b" " * 100_000_000)
    tracemalloc.start()
    with pytest.raises(OpenedTooLarge):
        decompressed(large, 1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("damaged", [PACKED[:-9], PACKED[:10] + b"\xff" * 20], ids=["cut", "torn"])
async def test_one_that_is_damaged_is_400(damaged: bytes) -> None:
    world = World(resolved("s-1"))
    status, _, said = await world.post(chunks=(damaged,), headers=[*signed(damaged), GZIP])
    assert status == 400
    assert b"BAD_ENCODING" in said


def test_several_parts_are_one_body() -> None:
    assert decompressed(gzip.compress(b"a") + gzip.compress(b"b") + b"\0\0", 10) == b"ab"
    with pytest.raises(Malformed):
        decompressed(gzip.compress(b"a") + PACKED[:12], 1_000)
    with pytest.raises(Malformed, match="at most 100 compressed parts"):
        decompressed(gzip.compress(b"") * 101, 1_000)


@pytest.mark.parametrize("over", [PACKED, BODY], ids=["signed as sent", "signed as written"])
async def test_one_that_nobody_could_judge_is_opened_at_admission(tmp_path: Path, over: bytes) -> None:
    unverified = {"tenant": "", "verdict": UNVERIFIED}
    bomb = gzip.compress(b" " * 20_000_000)
    async with opened(tmp_path, resolved()) as world:
        await world.receipt(PACKED, headers=lines([*signed(over), GZIP]), **unverified)
        await world.receipt(PACKED, headers=lines([*signed(b"x"), GZIP]), **unverified)
        await world.receipt(bomb, headers=lines([*signed(b"x"), GZIP]), **unverified)
        await world.admit()
        assert [job.body for job in await world.claim()] == [BODY]
        kept = await world.rejected()
        assert sorted(bytes(one.body) for one in kept) == sorted([PACKED, bomb])
        assert all(one.headers["content-encoding"] == "gzip" for one in kept)


@pytest.mark.parametrize("over", [PACKED, BODY], ids=["signed as sent", "signed as written"])
async def test_one_that_is_accepted_later_is_opened_then(tmp_path: Path, over: bytes) -> None:
    headers = {name.decode(): value.decode() for name, value in [*signed(over), GZIP]}
    async with opened(tmp_path, resolved()) as world:
        await world.keep_rejected(Delivery(PACKED, headers, "", NOW))
        (kept,) = await world.rejected()
        await world.events.AcceptRejection(pb.AcceptRejectionRequest(name=kept.name), None)
        await world.admit()
        assert [job.body for job in await world.claim()] == [BODY]


async def test_a_refused_body_is_not_kept_in_memory_by_its_own_error() -> None:
    packed = gzip.compress(b"a" * 500_000)
    delivery = Delivery(packed, {"content-encoding": "gzip", "signature": "x"}, "", NOW, "")
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(Rejected) as refused:
            verified(source_of(resolved("s-1")), delivery, 1_000_000)
        message = str(refused.value)
        del refused
        left = [one for one in gc.get_objects() if isinstance(one, Delivery) and len(one.body) == 500_000]
    finally:
        gc.enable()
    assert message
    assert not left
