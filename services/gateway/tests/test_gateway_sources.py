"""The source map: follows the tenant service, survives it, and survives a restart without it."""

from __future__ import annotations

import asyncio

import pytest
from trunkline.tenant.v1 import source_pb2, source_service_pb2
from trunkline_gateway.hooks.source_cache import SourceCache
from trunkline_gateway.hooks.sources import SourceMap
from trunkline_runtime.errors import NotFound, Unavailable

Change = source_service_pb2.WatchSourcesResponse


def resolved(source_id: str, secret: str = "s", revision: int = 1) -> source_pb2.ResolvedSource:
    return source_pb2.ResolvedSource(
        source=source_pb2.Source(name=f"tenants/acme/sources/{source_id}", provider=1),
        secrets=[source_pb2.SourceSecret(value=secret)], accepting=True, revision=revision,
    )  # fmt: skip


class Feed:
    """Gives each watch the next list of messages, then breaks."""

    def __init__(self, *watches):
        self.watches = list(watches)
        self.after = []

    async def resolve(self, source_id):
        raise NotFound(source_id)

    async def watch(self, after_revision):
        self.after.append(after_revision)
        if not self.watches:
            raise Done
        for message in self.watches.pop(0):
            yield message
        raise Unavailable("gone", reason="DOWN")


class Done(Exception):
    """The test's feed has no more to give."""


async def follow(sources: SourceMap) -> None:
    async def no_sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    with pytest.raises(Done):
        await sources.follow(no_sleep)


async def test_changes_are_followed_and_a_lost_watch_goes_on_where_it_was():
    feed = Feed(
        [Change(upserted=resolved("s-1"), revision=3), Change(caught_up=True, revision=3)],
        [
            Change(upserted=resolved("s-2", revision=4), revision=4),
            Change(deleted_source_id="s-1", revision=5),
        ],
    )
    sources = SourceMap(feed, None)
    await follow(sources)
    assert feed.after == [0, 3, 5]
    assert sources.get("s-1") is None
    assert sources.get("s-2").tenant_id == "acme"


async def test_who_counts_webhooks_is_told_of_sources_that_are_deleted_or_disabled():
    disabled = resolved("s-2", revision=4)
    disabled.accepting = False
    gone = []
    feed = Feed(
        [Change(upserted=resolved("s-1"), revision=3), Change(upserted=resolved("s-2"), revision=3)],
        [Change(upserted=disabled, revision=4), Change(deleted_source_id="s-1", revision=5)],
    )
    await follow(SourceMap(feed, None, gone=lambda tenant, source: gone.append((tenant, source))))
    assert gone == [("acme", "s-2"), ("acme", "s-1")]


async def test_a_late_answer_does_not_undo_a_newer_change():
    sources = SourceMap(Feed([Change(upserted=resolved("s-1", "new", 7), revision=7)]), None)
    await follow(sources)
    sources._put(resolved("s-1", "old", 6))
    assert sources.get("s-1").secrets[0].value == "new"


class SlowFeed(Feed):
    """Its answers are read at once and arrive when they are let go; messages are applied by the test."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = list(answers)
        self.go = asyncio.Event()

    async def resolve(self, source_id):
        answer = self.answers.pop(0)
        await self.go.wait()
        if answer is None:
            raise NotFound(source_id)
        return answer


async def asking(feed: SlowFeed, *meanwhile: Change):
    """Ask for s-1 and let the answer arrive after the watch has told these messages; the map and the answer."""
    sources = SourceMap(feed, None)
    sources._apply(Change(caught_up=True, revision=5))
    asked = asyncio.create_task(sources.resolve("s-1"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for message in meanwhile:
        sources._apply(message)
    feed.go.set()
    return sources, await asked


async def test_a_slow_answer_does_not_bring_a_deleted_source_back():
    deleted = Change(deleted_source_id="s-1", revision=7)
    sources, answer = await asking(SlowFeed(resolved("s-1", revision=6), None), deleted)
    assert answer is None
    assert sources.get("s-1") is None


async def test_a_source_that_was_only_changed_meanwhile_is_asked_for_again():
    far = Change(upserted=resolved("s-2", revision=9), revision=9)
    sources, answer = await asking(SlowFeed(resolved("s-1", "old", 6), resolved("s-1", "new", 10)), far)
    assert answer.secrets[0].value == sources.get("s-1").secrets[0].value == "new"


async def test_an_answer_that_is_overtaken_again_and_again_is_no_404():
    deleted = Change(deleted_source_id="s-1", revision=7)
    with pytest.raises(Unavailable):
        await asking(SlowFeed(*[resolved("s-1", revision=6)] * 3), deleted)


async def test_an_answer_from_before_a_restore_is_not_believed():
    sources, answer = await asking(SlowFeed(resolved("s-1", revision=90), None), Change(reset=True))
    assert answer is None
    assert sources.get("s-1") is None


async def test_a_slow_no_does_not_hide_a_source_that_was_made_meanwhile():
    made = Change(upserted=resolved("s-1", revision=6), revision=6)
    sources, answer = await asking(SlowFeed(None), made)
    assert answer is sources.get("s-1") is not None


async def test_what_an_answer_brought_goes_when_the_watch_passed_it_without_a_word():
    # Deleted before a snapshot, which names the living only.
    sources = SourceMap(Feed(), None)
    sources._put(resolved("s-1", revision=6))
    sources._apply(Change(caught_up=True, revision=5))
    assert sources.get("s-1") is not None, "it is newer than the snapshot"
    sources._apply(Change(caught_up=True, revision=7))
    assert sources.get("s-1") is None


async def test_a_reset_takes_lower_revisions_of_a_tenant_service_that_was_restored():
    feed = Feed(
        [Change(upserted=resolved("s-1", "lost", 90), revision=90), Change(upserted=resolved("s-2"), revision=91)],
        [
            Change(reset=True), Change(upserted=resolved("s-1", "restored", 5), revision=5),
            Change(caught_up=True, revision=5),
        ],
    )  # fmt: skip
    sources = SourceMap(feed, None)
    await follow(sources)
    assert feed.after == [0, 91, 5]
    assert sources.get("s-1").secrets[0].value == "restored"
    assert sources.get("s-2") is None


async def test_what_was_deleted_while_the_gateway_was_down_is_forgotten_when_the_snapshot_is_complete(
    tmp_path,
):
    cache = SourceCache(tmp_path / "sources", "key")
    cache.save([resolved("s-gone"), resolved("s-here")])
    sources = SourceMap(
        Feed([Change(upserted=resolved("s-here")), Change(caught_up=True, revision=9)]), cache
    )
    assert sources.get("s-gone") is not None, "it serves until the tenant service is heard"
    await follow(sources)
    assert sources.get("s-gone") is None
    assert sources.get("s-here") is not None


def test_the_cache_is_unreadable_without_the_suites_key(tmp_path):
    path = tmp_path / "sources"
    SourceCache(path, "key").save([resolved("s-1", "a-secret")])
    assert b"a-secret" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert SourceCache(path, "key").load()["s-1"].secrets[0].value == "a-secret"
    assert SourceCache(path, "other").load() == {}
    path.write_bytes(b"damaged")
    assert SourceCache(path, "key").load() == {}
    assert SourceCache(tmp_path / "missing", "key").load() == {}


async def test_a_cache_that_cannot_be_written_ends_nothing_and_is_written_when_there_is_room(
    tmp_path, monkeypatch
):
    path = tmp_path / "sources"
    SourceCache(path, "key").save([resolved("s-0")])
    cache = SourceCache(path, "key")
    sources = SourceMap(Feed(), cache)
    full, real = [OSError(28, "No space left on device")] * 2, cache.save

    def save(values):
        if full:
            raise full.pop()
        real(values)

    monkeypatch.setattr(cache, "save", save)
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)
        await asyncio.sleep(0)

    writing = asyncio.create_task(sources.persist(sleep))
    sources._put(resolved("s-1"), watched=True)
    async with asyncio.timeout(10):
        while set(SourceCache(path, "key").load()) != {"s-0", "s-1"}:
            await asyncio.sleep(0.01)
    assert len(pauses) == 2
    writing.cancel()


def test_a_save_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    cache = SourceCache(tmp_path / "sources", "key")
    cache.save([resolved("s-1")])

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        cache.save([resolved("s-2")])
    assert set(cache.load()) == {"s-1"}
    assert [path.name for path in tmp_path.iterdir()] == ["sources"]


class Asked(Feed):
    """Says that there is no such source, or that nobody can be reached, and counts who asks."""

    def __init__(self, error):
        super().__init__()
        self.error, self.asked, self.now, self.most = error, 0, 0, 0

    async def resolve(self, source_id):
        self.asked, self.now = self.asked + 1, self.now + 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        raise self.error


async def test_guessed_ids_are_asked_for_a_few_at_a_time_and_remembered():
    feed = Asked(NotFound("x"))
    sources = SourceMap(feed, None, now=lambda: 1.0)
    answers = await asyncio.gather(*(sources.resolve(f"g-{n}") for n in range(5_000)), return_exceptions=True)
    assert feed.most <= 16
    assert answers.count(None) == feed.asked == 1_000, "the others were told to come back"
    assert {type(answer) for answer in answers} == {type(None), Unavailable}
    for n in range(1_000):
        assert await sources.resolve(f"g-{n}") is None
    assert feed.asked == 1_000
    for wave in range(10):
        await asyncio.gather(*(sources.resolve(f"{wave}-{n}") for n in range(1_000)))
    assert feed.asked == 11_000
    assert await sources.resolve("9-999") is None
    assert feed.asked == 11_000
    assert await sources.resolve("g-0") is None
    assert feed.asked == 11_001, "of the 10,000 that are remembered it was the oldest"


async def test_a_service_that_cannot_be_reached_is_asked_once_a_second_whatever_the_ids():
    feed, clock = Asked(Unavailable("no", reason="DOWN")), [100.0]
    sources = SourceMap(feed, None, now=lambda: clock[0])
    for second in range(3):
        clock[0] += 1.1
        for n in range(200):
            with pytest.raises(Unavailable):
                await sources.resolve(f"{second}-{n}")
    assert feed.asked == 3
    feed.error = NotFound("x")
    feed.watches.append([Change(caught_up=True, revision=1)])
    await follow(sources)
    assert await sources.resolve("0-0") is None, "the watch is connected again"


async def test_a_source_that_cannot_be_understood_is_set_aside_and_the_others_are_followed():
    poison = resolved("s-1")
    poison.source.name = "nothing like a name"
    feed = Feed([Change(upserted=poison, revision=3), Change(upserted=resolved("s-2"), revision=4)])
    sources = SourceMap(feed, None)
    await follow(sources)
    assert sources.get("s-2") is not None
