"""A damaged spool: set aside and told of, its good rows saved, the gateway running."""

from __future__ import annotations

import os
import sqlite3

import pytest
from gateway_spool import NOW, opened, receipt, spool_some, with_file
from trunkline_gateway.intake.spool import DAMAGED
from trunkline_gateway.intake.spool_rescue import set_aside
from trunkline_store.errors import StoreLocked

PAGE = 8192


def damaged(what):
    return DAMAGED.labels(what)._value.get()


async def test_a_row_whose_checksum_is_wrong_is_left_in_the_file_that_is_set_aside(tmp_path):
    await spool_some(tmp_path, range(50))
    with_file(tmp_path / "spool.db", "UPDATE receipts SET body = x'00' WHERE seq = 7")
    with_file(tmp_path / "spool.db", "UPDATE receipts SET event_type = CAST(x'ff' AS TEXT) WHERE seq = 9")
    files, lost, saved = damaged("file"), damaged("row_lost"), damaged("row_saved")
    async with opened(tmp_path) as world:
        await world.until(lambda: world.spool.set_aside and not world.spool.rows)
        (line,) = world.inbox.describe()
        (aside,) = world.spool.set_aside
        assert str(aside) in line
        assert await world.receipts() == [n for n in range(50) if n not in (6, 8)]
        assert (damaged("file") - files, damaged("row_lost") - lost, damaged("row_saved") - saved) == (
            1,
            2,
            48,
        )
        with sqlite3.connect(aside) as kept:
            assert kept.execute("SELECT count(*) FROM receipts").fetchone() == (50,)
        kept.close()
        world.store.fault = "fails"
        await world.put(99)
        world.store.fault = ""
        await world.until(lambda: not world.spool.rows)
        assert 99 in await world.receipts(), "the new file serves"
    async with opened(tmp_path) as world:
        assert world.inbox.describe() == [], "what was read to its end is not read again"


@pytest.mark.parametrize("size", [16, 100, PAGE])
async def test_a_lost_beginning_of_the_file_loses_no_row(tmp_path, size):
    await spool_some(tmp_path, range(400))
    with (tmp_path / "spool.db").open("r+b") as file:
        file.write(os.urandom(size))
    async with opened(tmp_path) as world:
        assert len(world.spool.set_aside) == 1
        await world.until(lambda: not world.spool.rows)
        assert await world.receipts() == list(range(400))


async def test_around_a_broken_page_all_other_rows_are_saved(tmp_path):
    await spool_some(tmp_path, range(1500))
    with (tmp_path / "spool.db").open("r+b") as file:
        pages = file.seek(0, os.SEEK_END) // PAGE
        for page in (pages // 2, pages - 2):
            file.seek(page * PAGE)
            file.write(b"\xff" * PAGE)
    async with opened(tmp_path) as world:
        await world.until(lambda: world.spool.set_aside and not world.spool.rows)
        found = await world.receipts()
        assert len(found) == len(set(found))
        assert 1500 - 2 * 80 < len(found) < 1500, "two pages of seventy rows are lost"
        assert max(found) > 1400


async def test_a_file_that_is_something_else_is_set_aside(tmp_path):
    (tmp_path / "spool.db").write_bytes(b"this is no database\n" * 3000)
    async with opened(tmp_path) as world:
        (aside,) = world.spool.set_aside
        assert aside.name == f"spool.db.damaged-{NOW:%Y%m%dT%H%M%S%fZ}"
        world.store.fault = "fails"
        await world.put(1)
        world.store.fault = ""
        await world.until(lambda: not world.spool.rows)
        assert await world.receipts() == [1]


async def test_damage_that_is_met_while_the_store_is_away_does_not_end_the_spooling(tmp_path):
    await spool_some(tmp_path, range(30))
    with_file(tmp_path / "spool.db", "UPDATE receipts SET checksum = x'01' WHERE seq = 1")
    async with opened(tmp_path) as world:
        world.store.fault = "fails"
        await world.put(100)
        await world.until(lambda: bool(world.spool.set_aside))
        await world.put(101)
        world.store.fault = ""
        await world.until(lambda: not world.spool.rows)
        assert await world.receipts() == [*range(1, 30), 100, 101]


async def test_a_rescue_that_was_interrupted_goes_on_at_the_next_start_and_doubles_nothing(tmp_path):
    await spool_some(tmp_path, range(20))
    set_aside(tmp_path / "spool.db", NOW)
    await spool_some_again(tmp_path)
    async with opened(tmp_path) as world:
        assert len(world.spool.set_aside) == 1
        await world.until(lambda: not world.spool.rows)
        assert await world.receipts() == list(range(20))


async def spool_some_again(folder):
    """What the interrupted rescue had already saved."""
    from trunkline_gateway.intake.spool_rows import metadata, sealed, spooled
    from trunkline_store import Database

    async with await Database.open(f"sqlite:///{folder}/spool.db", metadata) as db:
        for number in range(5):
            await db.appender(spooled).append(sealed(receipt(number), 0))


async def test_two_gateways_must_not_share_a_spool(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    shared = tmp_path / "spool.db"
    async with opened(tmp_path / "a", spool_path=shared):
        with pytest.raises(StoreLocked):
            async with opened(tmp_path / "b", spool_path=shared):
                pass
