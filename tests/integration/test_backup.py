"""Backups and restores of state that no process serves: what may go wrong, step by step."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime

import pytest
from trunkline_audio.recordings.rows import blob_key
from trunkline_audio.schema import metadata as audio_metadata
from trunkline_audio.schema import recordings
from trunkline_cli.backup import making, swapping
from trunkline_cli.backup.files import copy_database, described
from trunkline_cli.backup.layout import SERVICES, SPOOL, BackupError, layout_of
from trunkline_cli.backup.making import make_backup
from trunkline_cli.backup.restoring import restore_backup
from trunkline_cli.backup.tombstones import bring_up
from trunkline_cli.suite import up
from trunkline_cli.suite.processes import SuiteError
from trunkline_gateway.intake.spool import Spool
from trunkline_gateway.intake.spool_log import frames
from trunkline_gateway.receipts import NewReceipt
from trunkline_gateway.schema import metadata as gateway_metadata
from trunkline_store import Database
from trunkline_store.sqlite.lock import FileLock

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A suite's files: four new databases, one recording, keys."""
    made = layout_of(tmp_path_factory.mktemp("template") / "state", env={})
    made.folder.mkdir()
    for name in SERVICES:
        asyncio.run(bring_up(name, made.databases[name], {}))
    asyncio.run(keep_recording(made, "acme", "r1"))
    made.secret_keys.write_text("key-1\n")
    made.kept_keys["operator.token"].write_text("first")
    made.source_cache.write_text("sources of later")
    return made.folder


@pytest.fixture
def layout(tmp_path, template):
    """A copy of the template, which a test may change."""
    shutil.copytree(template, tmp_path / "state")
    return layout_of(tmp_path / "state", env={})


async def keep_recording(layout, tenant, recording, call="c"):
    file = layout.blobs / blob_key(tenant, recording)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"sound of {recording}")
    row = {
        "tenant_id": tenant, "recording_id": recording, "call": f"tenants/{tenant}/calls/{call}", "sha256": "0" * 64,
        "size_bytes": file.stat().st_size, "format": "wav", "duration_us": 1, "channels": 1,
        "sample_rate_hertz": 8000, "created_at": NOW, "expire_at": None,
    }  # fmt: skip
    async with await Database.open(f"sqlite:///{layout.databases['audio']}", audio_metadata) as db:
        await db.write(lambda conn: conn.execute(recordings.insert(), row))


def restore(layout, source):
    return asyncio.run(restore_backup(layout, source))


def execute(path, statement, *values):
    with closing(sqlite3.connect(path)) as conn, conn:
        return conn.execute(statement, values).fetchall()


def bury(layout, service, tenant):
    execute(layout.databases[service], "INSERT INTO deleted_tenants VALUES (?, 1)", tenant)


def keep_tenant(layout, tenant, *, state, delete_time):
    columns = "tenant_id, display_name, state, retention, delete_time, version, create_time, update_time"
    statement = f"INSERT INTO tenants ({columns}) VALUES (?, '', ?, x'', ?, 1, 1, 1)"
    execute(layout.databases["tenant"], statement, tenant, state, delete_time)


def ids(layout):
    return execute(layout.databases["audio"], "SELECT tenant_id, recording_id FROM recordings ORDER BY 2")


def files_of(folder):
    """Everything in the state but locks, by name: content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_a_backup_put_back_is_the_state_of_its_time_and_the_state_of_now_is_moved_aside(layout, tmp_path):
    make_backup(layout, tmp_path / "b")
    asyncio.run(keep_recording(layout, "acme", "r2"))
    restored = restore(layout, tmp_path / "b")
    assert ids(layout) == [("acme", "r1")]
    assert (layout.blobs / blob_key("acme", "r1")).read_text() == "sound of r1"
    assert not (layout.blobs / blob_key("acme", "r2")).exists()
    (aside,) = {path.parent for path in restored.aside}
    assert (aside / "blobs" / blob_key("acme", "r2")).exists()
    assert execute(aside / "audio.db", "SELECT count(*) FROM recordings") == [(2,)]
    assert not layout.source_cache.exists(), "what the gateway knew of later sources is forgotten"
    assert not layout.plan.parent.exists()


def test_a_backup_is_for_its_owner_only(layout, tmp_path):
    make_backup(layout, tmp_path / "b")
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o700


def test_what_a_killed_backup_left_is_removed_by_the_next_one_and_nothing_else(layout, tmp_path):
    """Not a folder of another name, nor one that another process is filling."""
    others = ["20260101T000000Z.part", "mine.part", "20260101T000000Z"]
    for name in ("20250101T000000Z.part", *others):
        (tmp_path / "backups" / name / "blobs").mkdir(parents=True)

    held = os.open(tmp_path / "backups" / others[0], os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    made = tmp_path / "backups" / "20260201T000000Z"
    make_backup(layout, made)
    assert sorted(one.name for one in made.parent.iterdir() if one.is_dir()) == sorted([*others, made.name])
    os.close(held)


def test_a_receipt_that_leaves_the_spool_while_the_backup_runs_is_not_missed(layout, tmp_path, monkeypatch):
    """It is moved to the store as soon as the first file was copied: in whichever order, one copy must have it."""
    columns = (
        "receipt_id, source_id, tenant_id, event_type, received_at, verdict, content_type, url, headers, body"
    )
    values = ("rcp-1", "s", "acme", "post_call", NOW, 1, "", "", b"", b"body")
    insert = f"INSERT INTO receipts ({columns}) VALUES (?,?,?,?,?,?,?,?,?,?)"
    spooled(layout, values)
    copied = []

    def copy_then_drain(source, target):
        if not copied:
            execute(layout.databases["gateway"], insert, *values[:4], 1, *values[5:])
            shutil.rmtree(layout.databases[SPOOL])
        copy_database(source, target)
        copied.append(source)

    monkeypatch.setattr(making, "copy_database", copy_then_drain)
    manifest = make_backup(layout, tmp_path / "b")
    assert len(copied) == 4
    assert manifest["spool"]["receipts"] == 1
    assert manifest["databases"]["gateway"]["rows"]["receipts"] == 1


def spooled(layout, *rows):
    """Put receipts into the spool, as a gateway does."""

    async def put():
        spool = Spool(layout.databases[SPOOL], 1 << 20)
        await spool.care()
        await asyncio.gather(*(spool.append(NewReceipt(*row), 0) for row in rows))
        await spool.close()

    asyncio.run(put())


def test_a_spool_is_put_back_and_the_one_of_now_is_moved_aside(layout, tmp_path):
    row = ("rcp-1", "s", "acme", "post_call", NOW, 1, "", "", b"", b"body")
    spooled(layout, row)
    make_backup(layout, tmp_path / "b")
    spooled(layout, ("rcp-2", *row[1:]))
    restored = restore(layout, tmp_path / "b")
    held = [payload for path in layout.databases[SPOOL].glob("*.log") for _, payload in frames(path)]
    assert len(held) == 1
    assert b"rcp-1" in held[0]
    (aside,) = [path for path in restored.aside if path.name == layout.databases[SPOOL].name]
    assert len(list(aside.glob("*.log"))) == 2


def test_a_backup_whose_spool_was_changed_is_refused(layout, tmp_path):
    spooled(layout, ("rcp-1", "s", "acme", "post_call", NOW, 1, "", "", b"", b"body"))
    make_backup(layout, tmp_path / "b")
    (copy,) = (tmp_path / "b" / SPOOL).glob("*.log")
    copy.write_bytes(copy.read_bytes()[:-1] + b"?")
    with pytest.raises(BackupError, match="SHA-256"):
        restore(layout, tmp_path / "b")


def test_a_backup_of_an_earlier_release_puts_back_the_spool_of_that_release(layout, tmp_path):
    make_backup(layout, tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    del manifest["spool"]
    execute(tmp_path / "b" / f"{SPOOL}.db", "CREATE TABLE receipts (seq INTEGER PRIMARY KEY)")
    manifest["format"], manifest["databases"][SPOOL] = 1, described(tmp_path / "b" / f"{SPOOL}.db")
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    spooled(layout, ("rcp-1", "s", "acme", "post_call", NOW, 1, "", "", b"", b"body"))
    restore(layout, tmp_path / "b")
    assert execute(layout.databases[SPOOL], "SELECT count(*) FROM receipts") == [(0,)]


def test_gateway_is_copied_before_what_its_jobs_make(layout, tmp_path):
    order = make_backup(layout, tmp_path / "b")["order"]
    assert order == ["gateway", "audio", "ai", "tenant", "blobs"]


def test_a_copy_is_consistent_while_another_process_writes_and_does_not_wait_for_it(tmp_path):
    """Two rows a transaction: a copy with an odd number would be torn."""
    path = tmp_path / "busy.db"
    execute(path, "PRAGMA journal_mode=WAL")
    execute(path, "CREATE TABLE t (n INTEGER PRIMARY KEY, filling BLOB)")
    stop, commits = threading.Event(), []

    def write():
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute("PRAGMA synchronous=OFF")
            while not stop.is_set():
                conn.execute("BEGIN")
                conn.execute("INSERT INTO t (filling) VALUES (randomblob(4000))")
                conn.execute("INSERT INTO t (filling) VALUES (randomblob(4000))")
                conn.execute("COMMIT")
                commits.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            copy_database(path, tmp_path / f"{number}.db")
            assert execute(tmp_path / f"{number}.db", "SELECT count(*) % 2 FROM t") == [(0,)]
            assert not (tmp_path / f"{number}.db-wal").exists()
    finally:
        stop.set()
        writer.join()
    assert commits


def test_a_recording_that_is_being_deleted_is_not_in_the_backup(layout, tmp_path):
    asyncio.run(keep_recording(layout, "acme", "r2"))
    (layout.blobs / blob_key("acme", "r2")).unlink()
    manifest = make_backup(layout, tmp_path / "b")
    assert manifest["recordings"]["deleted_meanwhile"] == 1
    restore(layout, tmp_path / "b")
    assert ids(layout) == [("acme", "r1")]


@pytest.mark.parametrize("service", ["gateway", "audio", "ai", "tenant"])
def test_a_tenant_deleted_after_the_backup_does_not_come_back(layout, tmp_path, service):
    """Whichever database knows of it."""
    asyncio.run(keep_recording(layout, "gone", "r2"))
    make_backup(layout, tmp_path / "b")
    if service == "tenant":
        keep_tenant(layout, "gone", state=3, delete_time=1)
    else:
        bury(layout, service, "gone")
    restored = restore(layout, tmp_path / "b")
    assert restored.deleted == ["gone"]
    assert ids(layout) == [("acme", "r1")]
    assert not (layout.blobs / "t.gone").exists()
    for name in ("gateway", "audio", "ai"):
        assert execute(layout.databases[name], "SELECT tenant_id FROM deleted_tenants") == [("gone",)]
    told = execute(layout.databases["tenant"], "SELECT tenant_id FROM tenants WHERE delete_time IS NOT NULL")
    assert told == [("gone",)]


def test_a_database_that_is_open_refuses_the_restore(layout, tmp_path):
    make_backup(layout, tmp_path / "b")
    before = files_of(layout.folder)
    for path in layout.databases.values():
        lock = FileLock(path)
        with pytest.raises(BackupError, match="stop the suite first"):
            restore(layout, tmp_path / "b")
        lock.release()
    assert files_of(layout.folder) == before


def damaged(folder):
    with (folder / "ai.db").open("r+b") as file:
        file.seek(5000)
        file.write(b"?")


def incomplete(folder):
    (folder / "manifest.json").unlink()


def without_a_database(folder):
    (folder / "tenant.db").unlink()


def without_a_recording(folder):
    (folder / "blobs" / blob_key("acme", "r1")).unlink()


@pytest.mark.parametrize("harm", [damaged, incomplete, without_a_database, without_a_recording])
def test_a_backup_that_is_not_whole_changes_nothing(layout, tmp_path, harm):
    make_backup(layout, tmp_path / "b")
    before = files_of(layout.folder)
    harm(tmp_path / "b")
    with pytest.raises(BackupError):
        restore(layout, tmp_path / "b")
    assert files_of(layout.folder) == before


def test_a_backup_of_a_newer_version_changes_nothing(layout, tmp_path):
    execute(layout.databases["ai"], "UPDATE alembic_version SET version_num = '9999'")
    make_backup(layout, tmp_path / "b")
    execute(layout.databases["ai"], "UPDATE alembic_version SET version_num = '0001'")
    before = files_of(layout.folder)
    with pytest.raises(BackupError, match=r"ai\.db"):
        restore(layout, tmp_path / "b")
    assert files_of(layout.folder) == before


def test_a_database_that_is_damaged_is_not_backed_up(layout, tmp_path):
    size = layout.databases["tenant"].stat().st_size
    with layout.databases["tenant"].open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(size - 8192))
    with pytest.raises(BackupError, match=r"tenant\.db"):
        make_backup(layout, tmp_path / "b")
    assert list(tmp_path.iterdir()) == [layout.folder], "nothing that looks like a backup"


def test_a_restore_replaces_a_damaged_state_and_says_what_it_could_not_read(layout, tmp_path):
    make_backup(layout, tmp_path / "b")
    layout.databases["tenant"].write_bytes(b"no database at all" * 1000)
    bury(layout, "ai", "gone")
    restored = restore(layout, tmp_path / "b")
    assert restored.deleted == ["gone"]
    assert any("tenant.db" in remark for remark in restored.remarks)
    assert execute(layout.databases["tenant"], "PRAGMA quick_check") == [("ok",)]


def test_a_log_left_by_a_kill_is_not_read_into_the_restored_database(layout, tmp_path):
    make_backup(layout, tmp_path / "b")
    audio = layout.databases["audio"]
    live = sqlite3.connect(audio, isolation_level=None)
    live.execute("PRAGMA journal_mode=WAL")
    live.execute("DELETE FROM recordings")
    for suffix in ("", "-wal"):
        shutil.copy(f"{audio}{suffix}", f"{audio}{suffix}.kept")
    live.close()
    for suffix in ("", "-wal"):
        os.replace(f"{audio}{suffix}.kept", f"{audio}{suffix}")
    restore(layout, tmp_path / "b")
    assert ids(layout) == [("acme", "r1")]


def test_a_restore_interrupted_at_any_step_is_finished_by_the_next(layout, tmp_path, monkeypatch):
    (tmp_path / up.FOLDER).symlink_to(layout.folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # `up` would take pytest's
    make_backup(layout, tmp_path / "b")
    asyncio.run(keep_recording(layout, "acme", "r2"))
    shutil.copytree(layout.folder, tmp_path / "kept")
    replace, steps = os.replace, 0
    for fails_at in range(1, 100):
        shutil.rmtree(layout.folder)
        shutil.copytree(tmp_path / "kept", layout.folder)
        steps = 0

        def replace_until(source, target, fails_at=fails_at):
            nonlocal steps
            steps += 1
            if steps == fails_at:
                raise KeyboardInterrupt
            replace(source, target)

        monkeypatch.setattr(swapping.os, "replace", replace_until)
        try:
            restore(layout, tmp_path / "b")
            break
        except KeyboardInterrupt:
            pass
        monkeypatch.setattr(swapping.os, "replace", replace)
        if fails_at == 1:  # the plan itself was not written: nothing was moved
            assert ids(layout) == [("acme", "r1"), ("acme", "r2")]
            continue
        with pytest.raises(BackupError, match="interrupted"):
            make_backup(layout, tmp_path / "half")
        with pytest.raises(SuiteError, match="a restore was interrupted"):  # half of one time is not served
            up.up("sqlite")
        restored = restore(layout, tmp_path / "b")
        assert "finished first" in restored.remarks[0]
        assert ids(layout) == [("acme", "r1")]
        assert (layout.blobs / blob_key("acme", "r1")).exists()
        kept = layout.folder.glob("replaced-*/audio.db")
        counts = sorted(execute(path, "SELECT count(*) FROM recordings")[0][0] for path in kept)
        assert counts == [1, 2], "the first state is still there, moved aside"
    assert steps > 6


def test_keys_that_were_rotated_stay_and_those_of_the_backups_time_still_open_its_secrets(layout, tmp_path):
    make_backup(layout, tmp_path / "b")
    layout.secret_keys.write_text("key-2\n")
    layout.kept_keys["operator.token"].write_text("second")
    restore(layout, tmp_path / "b")
    assert layout.secret_keys.read_text() == "key-2,key-1\n"
    assert layout.secret_keys.stat().st_mode & 0o777 == 0o600
    assert layout.kept_keys["operator.token"].read_text() == "second"


def test_keys_that_were_lost_come_back(layout, tmp_path):
    make_backup(layout, tmp_path / "b")
    shutil.rmtree(layout.folder)
    restore(layout, tmp_path / "b")
    assert layout.secret_keys.read_text() == "key-1\n"
    assert layout.kept_keys["operator.token"].read_text() == "first"
    assert ids(layout) == [("acme", "r1")]


def test_stores_and_blobs_stand_where_the_settings_say(tmp_path):
    env = {
        "TRUNKLINE_AI_STORE_URL": f"sqlite:///{tmp_path}/other/a.db",
        "TRUNKLINE_GATEWAY_SPOOL_PATH": f"{tmp_path}/volume/spool",
        "TRUNKLINE_AUDIO_BLOBS_FOLDER": f"{tmp_path}/sounds",
    }
    layout = layout_of(tmp_path / "state", env)
    assert layout.databases["ai"] == tmp_path / "other" / "a.db"
    assert layout.databases[SPOOL] == tmp_path / "volume" / "spool"
    assert layout.databases["gateway"] == tmp_path / "state" / "gateway.db"
    assert layout.blobs == tmp_path / "sounds"


def test_stores_on_spanner_are_left_to_spanners_own_backups(tmp_path):
    url = "spanner+spanner:///projects/p/instances/i/databases/d"
    with pytest.raises(BackupError, match="docs/engines"):
        layout_of(tmp_path, {"TRUNKLINE_TENANT_STORE_URL": url})


def test_recordings_in_a_bucket_are_not_taken_for_lost(tmp_path):
    with pytest.raises(BackupError, match="gs://kept, which a backup does not copy"):
        layout_of(tmp_path, {"TRUNKLINE_AUDIO_BLOBS_BUCKET": "gs://kept"})


def test_every_table_of_the_gateway_is_counted(layout, tmp_path):
    rows = make_backup(layout, tmp_path / "b")["databases"]["gateway"]["rows"]
    assert rows.keys() >= gateway_metadata.tables.keys()


def erased(layout, *, lost):
    """Delete a recording, a transcript's and a call's worth on request, back up again if the state is to be `lost`."""
    execute(
        layout.databases["audio"],
        "INSERT INTO deleted_resources VALUES ('acme', 'tenants/acme/recordings/r1', 7)",
    )
    execute(layout.databases["audio"], "DELETE FROM recordings WHERE recording_id = 'r1'")
    execute(layout.databases["audio"], "DELETE FROM recordings WHERE recording_id = 'r2'")
    execute(layout.databases["tenant"], "INSERT INTO call_aliases VALUES ('acme', 'c2', 'c2', '', -1)")
    execute(layout.databases["tenant"], "INSERT INTO call_aliases VALUES ('acme', 'c9', 'c9', '', -1)")
    if lost:
        make_backup(layout, layout.folder.parent / "later")
        for path in layout.databases.values():
            path.unlink(missing_ok=True)


@pytest.mark.parametrize("lost", [False, True])
def test_what_was_deleted_on_request_after_the_backup_stays_deleted(layout, tmp_path, lost):
    """A recording at once, before its bytes come back; a call by a task that the gateway begins with."""
    keep_tenant(layout, "acme", state=1, delete_time=None)
    asyncio.run(keep_recording(layout, "acme", "r2", call="c2"))
    asyncio.run(keep_recording(layout, "acme", "r3"))
    make_backup(layout, tmp_path / "b")
    erased(layout, lost=lost)
    restored = restore(layout, tmp_path / "b")
    assert (restored.erased.resources, restored.erased.calls) == (1, 1)
    assert ids(layout) == [("acme", "r2"), ("acme", "r3")]
    assert not (layout.blobs / blob_key("acme", "r1")).exists()
    names = execute(layout.databases["audio"], "SELECT name, deleted_at FROM deleted_resources")
    assert names == [("tenants/acme/recordings/r1", 7)], "it is not fetched again either"
    tasks = execute(
        layout.databases["gateway"], "SELECT tenant_id, kind, subject FROM tasks WHERE kind = 'delete_call'"
    )
    assert tasks == [("acme", "delete_call", "c2")]
    buried = execute(
        layout.databases["tenant"], "SELECT alias_id FROM call_aliases WHERE place = -1 ORDER BY 1"
    )
    assert buried == [("c2",), ("c9",)], "an event about either may be delivered again"


def test_the_log_of_erasures_outlives_the_backups_and_holds_no_content(layout, tmp_path):
    erased(layout, lost=False)
    make_backup(layout, tmp_path / "b")
    shutil.rmtree(tmp_path / "b")
    execute(layout.databases["audio"], "DELETE FROM deleted_resources")
    make_backup(layout, tmp_path / "c")
    log = json.loads((tmp_path / "erasures.json").read_text())
    assert log["resources"] == [["acme", "tenants/acme/recordings/r1", 7]]
    assert (tmp_path / "erasures.json").stat().st_mode & 0o777 == 0o600


def test_a_damaged_log_of_erasures_is_no_empty_one(layout, tmp_path):
    make_backup(layout, tmp_path / "b")
    (tmp_path / "erasures.json").write_text("{")
    before = files_of(layout.folder)
    with pytest.raises(BackupError, match=r"erasures\.json is damaged"):
        restore(layout, tmp_path / "b")
    assert files_of(layout.folder) == before
