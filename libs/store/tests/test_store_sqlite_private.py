"""A database file is its owner's alone, and what is told to people about its lock fails nobody."""

import errno
import os

from trunkline_store import Database
from trunkline_store.sqlite.lock import FileLock
from trunkline_store.testing.conformance import METADATA, add, thing


def modes(folder):
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


async def test_its_files_are_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        async with await Database.open(f"sqlite:///{tmp_path}/store.db", METADATA) as db:
            await db.write(add(**thing("one")))
            assert modes(tmp_path) == dict.fromkeys(
                ["store.db", "store.db-wal", "store.db-shm", "store.db.lock"], 0o600
            )
    finally:
        os.umask(before)


async def test_a_file_of_an_earlier_release_is_made_private(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    async with await Database.open(url, METADATA):
        pass
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    async with await Database.open(url, METADATA) as db:
        await db.write(add(**thing("one")))
        assert set(modes(tmp_path).values()) == {0o600}


def test_a_lock_is_held_although_a_full_disk_does_not_take_the_holders_number(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    FileLock(tmp_path / "store.db").release()
