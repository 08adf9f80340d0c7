"""A damaged spool: what is damaged is passed over, told of and kept to look at; the gateway runs on."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from contextlib import closing

import pytest
from gateway_spool import opened, receipt, spool_some
from hypothesis import given
from hypothesis import strategies as st
from trunkline_gateway.intake.spool import Spool
from trunkline_gateway.intake.spool_log import DAMAGED, Log, frames
from trunkline_runtime.testing import value_of
from trunkline_store.errors import StoreBusy, StoreError, StoreLocked, StoreUnavailable, StoreUnsupported

HEAD = 24


def damaged(what):
    return value_of(DAMAGED.labels(what))


def segments(folder):
    return sorted((folder / "spool").glob("*.log"))


def places(segment):
    return [at for at, _ in frames(segment)]


def overwrite(path, at, raw):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(raw)


def payloads(segment):
    return [payload for _, payload in frames(segment) if payload is not None]


async def test_a_damaged_frame_is_passed_over_told_of_and_left_in_the_file_that_is_set_aside(tmp_path):
    await spool_some(tmp_path, range(50))
    (segment,) = segments(tmp_path)
    at = places(segment)
    overwrite(segment, at[6] + 100, b"?")  # in a payload
    overwrite(segment, at[8], b"?")  # in a mark
    overwrite(segment, at[10] + 12, b"\xff\xff\xff\xff")  # a length beyond the file
    files, lost = damaged("file"), damaged("row_lost")
    async with opened(tmp_path) as world:
        await world.until(lambda: world.spool.log.set_aside)
        (aside,) = world.spool.log.set_aside
        (line,) = world.inbox.describe()
        assert str(aside) in line
        assert aside.exists()
        assert await world.receipts() == [n for n in range(50) if n not in (6, 8, 10)]
        assert (damaged("file") - files, damaged("row_lost") - lost) == (1, 3)
        world.store.fault = "fails"
        await world.put(99)
        world.store.fault = ""
        await world.until(lambda: not world.spool.rows)
        assert 99 in await world.receipts(), "the next file serves"
    async with opened(tmp_path) as world:
        assert world.inbox.describe() == [], "what was read to its end is not read again"


async def test_damage_that_is_met_while_the_store_is_away_does_not_end_the_spooling(tmp_path):
    await spool_some(tmp_path, range(30))
    (segment,) = segments(tmp_path)
    async with opened(tmp_path) as world:  # after its start: the counts were right then
        overwrite(segment, places(segment)[0] + HEAD, b"??")
        world.store.fault = "fails"
        await world.put(100, 101)
        world.store.fault = ""
        await world.until(lambda: not world.spool.rows)
        assert {*range(1, 30), 100, 101} <= set(await world.receipts())


async def test_where_the_disk_cannot_read_a_block_the_frames_around_it_are_read(tmp_path, monkeypatch):
    await spool_some(tmp_path, range(60))
    read = os.pread

    def broken(file, size, at):
        if at == 4096:
            raise OSError(errno.EIO, "Input/output error")
        return read(file, size, at)

    monkeypatch.setattr(os, "pread", broken)
    async with opened(tmp_path) as world:
        await world.until(lambda: world.spool.log.set_aside)
        found = await world.receipts()
    assert found[0] == 0
    assert found[-1] == 59
    assert 40 < len(found) < 60


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A segment's name, its bytes, where each frame begins, and the payloads."""
    folder = tmp_path_factory.mktemp("sample") / "spool"
    log = Log(folder)
    log.open()
    wanted = [bytes([n]) * (1 + n * 7 % 40) for n in range(20)]
    log.append(wanted)
    (path,) = folder.glob("*.log")
    found = list(frames(path))
    log.close()
    return path.name, path.read_bytes(), [at for at, _ in found], wanted


PATCH = st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=80))


@given(
    patches=st.lists(PATCH, min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 10_000),
    cuts=st.binary(max_size=30),
)
def test_any_bytes_damaged_anywhere_lose_the_frames_that_they_hit_and_no_other(
    sample, tmp_path_factory, patches, cut, cuts
):
    name, good, starts, wanted = sample
    bad = bytearray(good)
    for at, raw in patches:
        at %= len(good)
        bad[at : at + len(raw)] = raw[: len(good) - at]
    if cut is not None:
        bad = bad[: cut % (len(good) + 1)]
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(bad + cuts)
    ends = [*starts[1:], len(good)]
    whole = [p for p, a, b in zip(wanted, starts, ends, strict=True) if bad[a:b] == good[a:b]]
    found = list(frames(path))
    assert [payload for _, payload in found if payload is not None] == whole
    lost_between = cut is None and len(whole) < len(wanted)
    assert lost_between <= any(payload is None for _, payload in found), "and it is told of"


def test_a_body_that_looks_like_frames_is_not_read_as_any_when_its_own_is_damaged(tmp_path):
    log = Log(tmp_path / "spool")
    log.open()
    log.append([b"forged"])
    (first,) = segments(tmp_path)
    forged = first.read_bytes()
    log.first(1, ())  # another file from here on
    log.append([forged * 3, b"last"])
    _, second = segments(tmp_path)
    overwrite(second, HEAD - 1, bytes([second.read_bytes()[HEAD - 1] ^ 1]))
    assert payloads(second) == [b"last"]
    log.close()


@pytest.mark.parametrize("size", [1, 23, 24, 30])
def test_a_half_written_end_is_passed_over_and_what_comes_later_is_kept(tmp_path, size):
    log = Log(tmp_path / "spool")
    log.open()
    log.append([b"one", b"a longer one"])
    (segment,) = segments(tmp_path)
    os.truncate(segment, HEAD + 3 + size)  # as kill -9 or a power cut leaves it
    log.close()
    lost = damaged("row_lost")
    log.open()
    log.append([b"two"])
    assert [frame.payload for frame in log.first(9, ())] == [b"one", b"two"]
    assert damaged("row_lost") == lost
    log.close()


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_group_that_the_disk_refuses_is_not_there_and_what_was_there_is(tmp_path, monkeypatch, call):
    log = Log(tmp_path / "spool")
    log.open()
    log.append([b"one"])
    write, refused = os.write, []

    def half(file, raw):
        if refused:
            raise OSError(errno.ENOSPC, "No space left on device")
        refused.append(1)
        return write(file, raw[: len(raw) // 2])

    def fails(file):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, half if call == "write" else fails)
        with pytest.raises(OSError, match=r"No space|Input"):
            log.append([b"two", b"three"])
    log.append([b"four"])
    assert log.rows == 2
    assert [frame.payload for frame in log.first(9, ())] == [b"one", b"four"]
    log.close()


def test_what_is_durable_stays_though_the_file_cannot_be_looked_at(tmp_path, monkeypatch):
    log = Log(tmp_path / "spool")
    log.open()
    log.append([b"one", b"two"])

    def fails(file):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fails)
        with pytest.raises(OSError, match="Input"):
            log.append([b"three"])
    assert [frame.payload for frame in log.first(9, ())] == [b"one", b"two"]
    log.close()


def test_a_file_of_another_name_is_left_alone_and_zeros_are_an_end_that_was_never_written(tmp_path):
    log = Log(tmp_path / "spool")
    log.open()
    log.append([b"one"])
    log.close()
    (segment,) = segments(tmp_path)
    with segment.open("ab") as file:
        file.write(bytes(500))
    stray = tmp_path / "spool" / "notes-of-monday.log"
    stray.write_text("x")
    lost = damaged("row_lost")
    log.open()
    first = log.first(9, ())
    assert [frame.payload for frame in first] == [b"one"]
    log.forget(first)
    log.close()
    assert damaged("row_lost") == lost
    assert list((tmp_path / "spool").glob("*.log")) == [stray]


def test_what_left_does_not_come_back_though_its_file_stays(tmp_path):
    log = Log(tmp_path / "spool")
    log.open()
    log.append([b"%d" % n for n in range(10)])
    log.forget([frame for frame in log.first(10, ()) if frame.payload != b"4"])
    log.close()
    log.open()
    assert log.rows == 1
    assert [frame.payload for frame in log.first(10, ())] == [b"4"]
    log.forget(log.first(1, ()))
    assert (log.rows, log.size) == (0, 0)
    assert segments(tmp_path) == []
    log.close()


def test_files_are_their_owners_alone_and_a_long_log_is_several(tmp_path):
    umask = os.umask(0)
    try:
        log = Log(tmp_path / "spool")
        log.open()
        for _ in range(6):
            log.append([b"x" * (1 << 20)])
        log.close()
    finally:
        os.umask(umask)
    assert [path.stat().st_mode & 0o777 for path in segments(tmp_path)] == [0o600, 0o600]
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


async def test_two_gateways_must_not_share_a_spool(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    shared = tmp_path / "spool"
    async with opened(tmp_path / "a", spool_path=shared):
        with pytest.raises(StoreLocked):
            async with opened(tmp_path / "b", spool_path=shared):
                pass


async def test_an_acknowledgement_comes_after_the_disk_has_it(tmp_path, monkeypatch):
    def fails(file):
        raise OSError(errno.EIO, "Input/output error")

    async with opened(tmp_path, running=False) as world:
        world.store.fault = "fails"
        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(StoreUnavailable, match="Input/output"):
            await world.put(1)
        assert world.spool.rows == 0
        monkeypatch.undo()
        await world.put(2)
        assert world.spool.rows == 1


def old_spool(path, rows):
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE receipts (seq INTEGER PRIMARY KEY)")
        conn.executemany("INSERT INTO receipts VALUES (?)", [(n,) for n in range(rows)])
        conn.commit()


async def test_an_empty_spool_of_an_earlier_release_makes_room(tmp_path):
    old_spool(tmp_path / "spool", 0)
    await spool_some(tmp_path, range(3))
    assert (tmp_path / "spool").is_dir()


async def test_a_spool_of_an_earlier_release_that_holds_receipts_ends_the_start_with_what_to_do(tmp_path):
    old_spool(tmp_path / "spool", 3)
    with pytest.raises(StoreUnsupported, match="holds 3 receipts: run that release until"):
        async with opened(tmp_path):
            pass
    assert (tmp_path / "spool").is_file()


async def test_a_file_that_is_something_else_ends_the_start_and_stays(tmp_path):
    (tmp_path / "spool").write_bytes(b"this is no database\n" * 300)
    with pytest.raises(StoreError, match="must be a folder"):
        async with opened(tmp_path):
            pass
    assert (tmp_path / "spool").is_file()


async def test_a_receipt_is_read_back_as_it_was(tmp_path):
    async with opened(tmp_path, running=False) as world:
        world.store.fault = "fails"
        await world.put(7, body=bytes(range(256)))
        (row,) = await world.spool.first(9, ())
        assert (row.receipt, row.floor) == (receipt(7, bytes(range(256))), 0)


def test_large_frames_are_read_a_few_at_a_time(tmp_path):
    log = Log(tmp_path / "spool")
    log.open()
    for number in range(6):
        log.append([bytes([number]) * (3 << 20)])
    first = log.first(256, ())
    assert [frame.payload[0] for frame in first] == [0, 1, 2]
    log.forget(first)
    assert [frame.payload[0] for frame in log.first(256, ())] == [3, 4, 5]
    log.close()


async def test_what_is_on_its_way_to_the_spool_is_bounded_and_written_a_few_at_a_time(tmp_path):
    groups = []

    async def run(work, *given):
        if getattr(work, "__name__", "") == "append":
            groups.append(sum(map(len, given[0])))
        await asyncio.sleep(0)
        return work(*given)

    spool = Spool(tmp_path / "spool", 1 << 30, run)
    await spool.care()
    values = receipt(1)._replace(body=bytes(1 << 20))
    futures = [spool.append(values, 0) for _ in range(63)]
    with pytest.raises(StoreBusy):
        spool.append(values, 0)
    await asyncio.gather(*futures)
    assert max(groups) < 6 << 20
    await spool.append(values, 0)
    await spool.close()
