"""Blobs: wholly there or not at all, and never outside their folder."""

import hashlib

import pytest
from trunkline_audio.media.blobs.base import BlobNotFound
from trunkline_audio.media.blobs.local import LocalBlobs


async def pieces(*chunks, fail=False):
    for chunk in chunks:
        yield chunk
    if fail:
        raise ConnectionError("cut")


async def read(blobs, key):
    async with blobs.local(key) as path:
        return path.read_bytes()


async def test_what_is_put_is_got(tmp_path):
    blobs = LocalBlobs(tmp_path / "blobs")
    kept = await blobs.put("t.acme/r.one", pieces(b"ab", b"", b"cd" * 300_000))
    body = b"ab" + b"cd" * 300_000
    assert (kept.size, kept.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert await read(blobs, "t.acme/r.one") == body


async def test_a_put_that_fails_leaves_what_was_there(tmp_path):
    blobs = LocalBlobs(tmp_path)
    await blobs.put("a/b", pieces(b"old"))
    with pytest.raises(ConnectionError):
        await blobs.put("a/b", pieces(b"new", fail=True))
    with pytest.raises(ConnectionError):
        await blobs.put("a/c", pieces(b"new", fail=True))
    assert await read(blobs, "a/b") == b"old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    await blobs.put("a/b", pieces(b"newer"))
    assert await read(blobs, "a/b") == b"newer"


async def test_a_blob_that_is_not_there_is_said_so(tmp_path):
    blobs = LocalBlobs(tmp_path)
    assert not await blobs.delete("a/b")
    with pytest.raises(BlobNotFound):
        await read(blobs, "a/b")
    await blobs.put("a/b", pieces(b"x"))
    assert await blobs.delete("a/b")
    with pytest.raises(BlobNotFound):
        await read(blobs, "a/b")


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "../a", "a/../b", "a//b", ".hidden", "a/.b", "A", "a b", "a\0", "a\n"]
)
async def test_a_key_cannot_leave_the_folder(tmp_path, key):
    with pytest.raises(ValueError, match="no blob key"):
        await LocalBlobs(tmp_path).put(key, pieces(b"x"))
