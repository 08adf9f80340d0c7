"""Blobs, in a folder and in a bucket alike: wholly there or not at all, and never outside their place."""

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from audio_bucket import BUCKET, Line, served
from trunkline_audio.config import load_config
from trunkline_audio.media.blobs.base import CHUNK, BlobNotFound
from trunkline_audio.media.blobs.gcs import GcsBlobs
from trunkline_audio.media.blobs.local import LocalBlobs
from trunkline_audio.media.blobs.parts import write_part
from trunkline_audio.media.blobs.settings import BlobSettings
from trunkline_runtime.config import ConfigError
from trunkline_runtime.errors import Unavailable
from trunkline_runtime.testing import KEY_FOLDER


async def pieces(*chunks, fail=False):
    for chunk in chunks:
        yield chunk
    if fail:
        raise ConnectionError("cut")


async def read(blobs, key):
    async with blobs.local(key) as path:
        return path.read_bytes()


async def joined(stream):
    found = [piece async for piece in stream]
    assert all(0 < len(piece) <= CHUNK for piece in found)
    return b"".join(found)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("gcs")) as url:
        yield url


@contextlib.asynccontextmanager
async def bucket(monkeypatch, url, scratch, name=f"gs://{BUCKET}/kept", **settings):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    async with GcsBlobs(BlobSettings(bucket=name, **settings), scratch) as blobs:
        yield blobs


@pytest.fixture(params=["local", "gcs"])
async def blobs(request, tmp_path, monkeypatch):
    if request.param == "local":
        yield LocalBlobs(tmp_path / "blobs")
        return
    scratch = tmp_path / "scratch"
    folder = f"gs://{BUCKET}/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"
    async with bucket(monkeypatch, request.getfixturevalue("server"), scratch, folder) as made:
        yield made
        assert not scratch.exists() or not list(scratch.iterdir()), "scratch files are left"


async def test_what_is_put_is_got(blobs):
    kept = await blobs.put("t.acme/r.one", pieces(b"ab", b"", b"cd" * 300_000))
    body = b"ab" + b"cd" * 300_000
    assert (kept.size, kept.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert await read(blobs, "t.acme/r.one") == body
    assert await blobs.size("t.acme/r.one") == len(body)
    assert await joined(blobs.read("t.acme/r.one")) == body


async def test_an_empty_blob_is_a_blob(blobs):
    kept = await blobs.put("a/empty", pieces())
    assert kept.size == await blobs.size("a/empty") == 0
    assert await read(blobs, "a/empty") == await joined(blobs.read("a/empty")) == b""


async def test_a_put_that_fails_leaves_what_was_there(blobs):
    await blobs.put("a/b", pieces(b"old"))
    with pytest.raises(ConnectionError):
        await blobs.put("a/b", pieces(b"new", fail=True))
    with pytest.raises(ConnectionError):
        await blobs.put("a/c", pieces(b"new", fail=True))
    assert await read(blobs, "a/b") == b"old"
    with pytest.raises(BlobNotFound):
        await blobs.size("a/c")
    await blobs.put("a/b", pieces(b"newer"))
    assert await read(blobs, "a/b") == b"newer"


def test_a_failed_put_leaves_no_file(tmp_path):
    async def put():
        with pytest.raises(ConnectionError):
            await LocalBlobs(tmp_path).put("a/c", pieces(b"new", fail=True))

    asyncio.run(put())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_a_blob_that_is_not_there_is_said_so(blobs):
    assert not await blobs.delete("a/b")
    for missing in (
        read(blobs, "a/b"),
        blobs.size("a/b"),
        joined(blobs.read("a/b")),
        joined(blobs.read("a/b", 3, 3)),
    ):
        with pytest.raises(BlobNotFound):
            await missing
    await blobs.put("a/b", pieces(b"x"))
    assert await blobs.delete("a/b")
    assert not await blobs.delete("a/b")
    with pytest.raises(BlobNotFound):
        await read(blobs, "a/b")


RANGES = [
    (0, None), (0, 0), (0, 1), (1, None), (CHUNK - 1, CHUNK + 1), (5 * 1024 * 1024, None), (7, 7), (3, 10**9),
    (10**9, None),
]  # fmt: skip


async def test_a_range_is_what_it_says(blobs):
    body = os.urandom(5 * 1024 * 1024 + 17)  # more than one request reads
    await blobs.put("a/b", pieces(body))
    for start, end in RANGES:
        assert await joined(blobs.read("a/b", start, end)) == body[start:end], (start, end)
    for start, end in ((-1, None), (2, 1)):
        with pytest.raises(ValueError, match="no range"):
            await joined(blobs.read("a/b", start, end))


async def test_of_writers_at_once_one_wins_wholly(blobs):
    bodies = [bytes([n]) * 200_000 for n in range(6)]
    await asyncio.gather(*(blobs.put("a/b", pieces(body)) for body in bodies))
    assert await read(blobs, "a/b") in bodies


async def test_a_file_in_hand_stays_whole_while_its_blob_is_replaced_and_deleted(blobs):
    await blobs.put("a/b", pieces(b"first" * 100_000))
    reading = blobs.read("a/b")
    begun = await anext(reading)
    async with blobs.local("a/b") as path:
        with path.open("rb") as file:
            await blobs.put("a/b", pieces(b"second"))
            await blobs.delete("a/b")
            assert file.read() == b"first" * 100_000
    rest = b""
    with contextlib.suppress(BlobNotFound):
        rest = await joined(reading)
    assert begun + rest == (b"first" * 100_000)[: len(begun) + len(rest)]


async def test_a_folder_is_deleted_in_portions_and_no_other(blobs):
    for key in [f"t.acme/r.{n:02d}" for n in range(23)] + ["t.acme2/r.1", "t.acm/r.1"]:
        await blobs.put(key, pieces(b"x"))
    assert [await blobs.delete_folder("t.acme", 10) for _ in range(4)] == [10, 10, 3, 0]
    assert await read(blobs, "t.acme2/r.1") == await read(blobs, "t.acm/r.1") == b"x"


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "../a", "a/../b", "a//b", ".hidden", "a/.b", "A", "a b", "a\0", "a\n"]
)
async def test_a_key_cannot_leave_the_folder(blobs, key):
    with pytest.raises(ValueError, match="no blob key"):
        await blobs.put(key, pieces(b"x"))
    for other in (
        blobs.size,
        blobs.delete,
        lambda key: joined(blobs.read(key)),
        lambda key: read(blobs, key),
    ):
        with pytest.raises(ValueError, match="no blob key"):
            await other(key)


async def test_a_folder_of_more_than_a_page_is_deleted(tmp_path, monkeypatch):
    """The bucket gives a thousand names at most at a time."""
    folder = tmp_path / "seed" / "many" / "t.a"
    folder.mkdir(parents=True)
    for n in range(1_005):
        (folder / f"r.{n}").touch()
    with served(tmp_path, tmp_path / "seed") as url:
        async with bucket(monkeypatch, url, tmp_path, "gs://many") as blobs:
            assert await blobs.delete_folder("t.a", 2_000) == 1_005
            assert await blobs.delete_folder("t.a", 2_000) == 0


async def test_an_upload_goes_on_after_its_line_was_cut(server, tmp_path, monkeypatch):
    body = os.urandom(20 * 1024 * 1024)  # three requests
    async with Line(server) as line, bucket(monkeypatch, line.url, tmp_path) as blobs:
        await blobs.put("a/first", pieces(b"x"))
        line.most, line.cuts = 10 * 1024 * 1024, 2
        kept = await blobs.put("a/b", pieces(body))
        assert line.cut, "the line was never cut"
        assert kept.sha256 == hashlib.sha256(await read(blobs, "a/b")).hexdigest()


async def test_an_upload_that_is_cut_for_good_leaves_what_was_there(server, tmp_path, monkeypatch):
    async with Line(server) as line, bucket(monkeypatch, line.url, tmp_path, patience_seconds=0.5) as blobs:
        await blobs.put("cut/old", pieces(b"old"))
        line.most, line.cuts = 1024 * 1024, 1_000
        for key in ("cut/old", "cut/new"):
            with pytest.raises(Unavailable) as told:
                await blobs.put(key, pieces(os.urandom(9 * 1024 * 1024)))
            assert told.value.reason == "BLOBS_UNAVAILABLE"
        line.cuts = 0
        assert await read(blobs, "cut/old") == b"old"
        with pytest.raises(BlobNotFound):
            await blobs.size("cut/new")


async def test_an_answer_that_is_lost_does_not_make_the_upload_fail(server, tmp_path, monkeypatch):
    """The second try meets the object of the first, whose generation it did not name."""
    async with bucket(monkeypatch, server, tmp_path) as blobs:
        first = await blobs.put("lost/a", pieces(b"same"))
        assert await blobs.put("lost/a", pieces(b"same")) == first
        assert await read(blobs, "lost/a") == b"same"


async def test_an_upload_that_nobody_waits_for_stops(server, tmp_path, monkeypatch):
    async with Line(server) as line, bucket(monkeypatch, line.url, tmp_path) as blobs:
        await blobs.put("left/a", pieces(b"x"))
        line.most, line.cuts = 9 * 1024 * 1024, 1
        putting = asyncio.create_task(blobs.put("left/b", pieces(os.urandom(30 * 1024 * 1024))))
        await asyncio.wait_for(line.reached.wait(), 60)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
    async with bucket(monkeypatch, server, tmp_path) as blobs:
        with pytest.raises(BlobNotFound):
            await blobs.size("left/b")
    assert not list(tmp_path.iterdir())


KILLED = """
import asyncio, os, sys
from pathlib import Path
from trunkline_audio.media.blobs.gcs import GcsBlobs
from trunkline_audio.media.blobs.parts import write_part
from trunkline_audio.media.blobs.settings import BlobSettings

async def chunks():
    for _ in range(40):
        yield os.urandom(1024 * 1024)

async def main():
    async with GcsBlobs(BlobSettings(bucket="gs://recordings/kept"), Path(sys.argv[1])) as blobs:
        await blobs.put("killed/a", chunks())

asyncio.run(main())
"""


async def test_a_process_that_is_killed_half_way_leaves_no_blob(server, tmp_path, monkeypatch):
    async with Line(server) as line:
        line.most, line.cuts = 20 * 1024 * 1024, 1
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, str(tmp_path), env={**os.environ, "STORAGE_EMULATOR_HOST": line.url}
        )
        try:
            await asyncio.wait_for(line.reached.wait(), 60)
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
    async with bucket(monkeypatch, server, tmp_path) as blobs:
        with pytest.raises(BlobNotFound):
            await blobs.size("killed/a")


async def test_a_bucket_that_is_not_there_says_so_and_loses_nothing(server, tmp_path, monkeypatch, caplog):
    async with bucket(monkeypatch, server, tmp_path, "gs://no-such-bucket") as blobs:
        for attempt in (
            blobs.put("a/b", pieces(b"x")),
            blobs.size("a/b"),
            read(blobs, "a/b"),
            joined(blobs.read("a/b")),
            blobs.delete("a/b"),
            blobs.delete_folder("a", 5),
        ):
            with pytest.raises(Unavailable, match="there is no bucket no-such-bucket") as told:
                await attempt
            assert told.value.reason == "BLOBS_REFUSED"


async def test_a_server_that_is_not_there_is_worth_another_try(tmp_path, monkeypatch):
    async with bucket(monkeypatch, "http://127.0.0.1:1", tmp_path, patience_seconds=0.1) as blobs:
        with pytest.raises(Unavailable, match="does not answer") as told:
            await blobs.size("a/b")
    assert told.value.reason == "BLOBS_UNAVAILABLE"
    assert told.value.retry_after


@pytest.mark.parametrize(
    "value",
    ["gs://", "gs://B", "recordings", "gs://ab/Folder", "gs://ab//c", "s3://ab", "gs://abc/../d", "gs://a b"],
)
def test_a_bucket_of_another_form_is_refused(value):
    with pytest.raises(ConfigError, match="TRUNKLINE_AUDIO_BLOBS_BUCKET must be gs://bucket"):
        load_config({"TRUNKLINE_AUDIO_BLOBS_BUCKET": value})


def test_a_check_tells_of_a_missing_bucket(server, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    env = {
        "TRUNKLINE_AUDIO_KEYS": str(KEY_FOLDER),
        "TRUNKLINE_AUDIO_TENANT_ADDRESS": server.removeprefix("http://"),
        "TRUNKLINE_AUDIO_ENGINE": "google",
        "TRUNKLINE_AUDIO_GOOGLE_PROJECT": "p",
    }
    load_config({**env, "TRUNKLINE_AUDIO_BLOBS_BUCKET": f"gs://{BUCKET}/kept"}, reach=True)
    with pytest.raises(ConfigError) as told:
        load_config({**env, "TRUNKLINE_AUDIO_BLOBS_BUCKET": "gs://no-such-bucket"}, reach=True)
    assert str(told.value) == "TRUNKLINE_AUDIO_BLOBS_BUCKET: there is no bucket no-such-bucket"


def test_the_service_loads_no_client_library_for_a_folder(tmp_path):
    code = (
        "import sys, trunkline_audio.media.blobs.loader as l;"
        "from pathlib import Path;"
        "from trunkline_audio.media.blobs.settings import BlobSettings;"
        "l.load_blobs(BlobSettings(), Path('blobs'), Path('scratch'));"
        "print([m for m in sys.modules if m.startswith('google.cloud.')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(tmp_path), capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


async def test_who_gives_up_while_the_disk_is_slow_leaves_nothing(tmp_path):
    """The thread that writes goes on: what it makes must not appear after the removal."""
    goes_on, writes = threading.Event(), threading.Event()

    def finish(file):
        writes.set()
        goes_on.wait(20)
        (tmp_path / "part").replace(tmp_path / "whole")

    putting = asyncio.create_task(write_part(tmp_path / "part", pieces(b"x"), finish))
    await asyncio.to_thread(writes.wait, 20)
    putting.cancel()
    done, _ = await asyncio.wait((putting,), timeout=0.05)
    assert not done, "it is removed once nobody writes to it"
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert not (tmp_path / "part").exists()


async def test_a_folder_that_is_made_again_is_on_the_disk_again(tmp_path):
    blobs = LocalBlobs(tmp_path)
    for _ in range(2):
        await blobs.put("t.acme/u.1/a", pieces(b"x"))
        assert await blobs.delete_folder("t.acme", 10) == 1
    await blobs.put("t.acme/u.1/a", pieces(b"y"))
    assert await read(blobs, "t.acme/u.1/a") == b"y"
