"""Fairness: nobody waits for all that another tenant, or another recording, has to be done."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

import pytest
from trunkline_audio.engines.places import Guest, has_room
from trunkline_audio.media.preparation import PrepareLimits, Preparer
from trunkline_runtime.engines.fairness import FairLanes

CLASSES = {"batch": 1, "background": 2}
"""Recordings of these names are of these classes."""


class Queue:
    """Asks for lanes and holds each until it is told to let go."""

    def __init__(self, lanes):
        self.lanes = FairLanes(lanes)
        self.holding = []
        self.tasks = {}
        self.done = {}

    async def ask(self, *askers):
        """Each asker, such as `loud/1`, wants one more lane."""
        for asker in askers:
            self.tasks.setdefault(asker, []).append(asyncio.create_task(self._hold(asker)))
        await self.settled()

    async def let_go(self, asker=None):
        """The first holder, or the first of that name, gives its lane back."""
        held = next(item for item in self.holding if asker in (None, item[0]))
        held[1].set()
        await self.settled()

    async def served(self, count):
        """The next so many to get a lane, as the holders let go one by one."""
        out = []
        for _ in range(count):
            before = list(self.holding)
            await self.let_go()
            out += [name for name, event in self.holding if (name, event) not in before]
        return out

    def names(self):
        return [name for name, _ in self.holding]

    async def end(self):
        for task in (task for tasks in self.tasks.values() for task in tasks):
            task.cancel()
        await asyncio.gather(
            *(task for tasks in self.tasks.values() for task in tasks), return_exceptions=True
        )

    async def settled(self):
        for _ in range(5):
            await asyncio.sleep(0)

    async def _hold(self, asker):
        tenant, _, recording = asker.partition("/")
        async with self.lanes.lane(tenant, recording, CLASSES.get(recording, 0)):
            item = (asker, asyncio.Event())
            self.holding.append(item)
            try:
                await item[1].wait()
            finally:
                self.holding.remove(item)


@contextlib.asynccontextmanager
async def queue(lanes):
    made = Queue(lanes)
    try:
        yield made
    finally:
        await made.end()


async def test_as_many_hold_a_lane_as_there_are_and_no_more():
    async with queue(3) as line:
        await line.ask(*["acme/1"] * 5)
        assert line.names() == ["acme/1"] * 3
        await line.let_go()
        await line.let_go()
        assert line.names() == ["acme/1"] * 3
        await line.let_go()
        assert line.names() == ["acme/1"] * 2


async def test_a_quiet_tenant_gets_the_next_lane_beside_one_with_fifty_recordings():
    async with queue(2) as line:
        for recording in range(50):
            await line.ask(*[f"loud/{recording}"] * 4)
        await line.served(7)
        await line.ask("quiet/1", "quiet/1")
        first, second, third = await line.served(3)
        assert (first, third) == ("quiet/1", "quiet/1")
        assert second.startswith("loud/")


async def test_tenants_that_both_wait_share_the_lanes_equally_however_much_one_asks_for():
    async with queue(4) as line:
        await line.ask(*(f"loud/{n}" for n in range(40)))
        await line.ask(*["quiet/1"] * 20)
        await line.served(4)
        for _ in range(10):
            assert Counter(name.partition("/")[0] for name in line.names()) == {"loud": 2, "quiet": 2}
            await line.served(1)
            await line.served(1)


async def test_recordings_of_one_tenant_take_turns():
    async with queue(1) as line:
        await line.ask(*["acme/long"] * 6)
        await line.ask(*["acme/short"] * 2)
        await line.ask(*["acme/other"] * 2)
        assert await line.served(8) == [
            "acme/short", "acme/other", "acme/long", "acme/short", "acme/other", "acme/long", "acme/long", "acme/long",
        ]  # fmt: skip


@pytest.mark.parametrize(("many", "few"), [("loud/1", "quiet/1"), ("acme/long", "acme/short")])
async def test_a_free_lane_goes_to_whoever_holds_fewest_however_lately_that_was_served(many, few):
    async with queue(4) as line:
        await line.ask(*[many] * 3, few)
        await line.ask(many, few)
        await line.let_go(many)
        assert line.names() == [many, many, few, few]


async def test_recordings_of_the_same_name_belong_to_their_tenants():
    async with queue(1) as line:
        await line.ask(*["one/rec"] * 2, *["one/other"] * 2)
        assert await line.served(1) == ["one/other"]
        await line.ask("two/rec")
        assert await line.served(2) == ["two/rec", "one/rec"]


async def test_among_equals_whoever_asked_first_is_first():
    async with queue(1) as line:
        await line.ask("held/1", "a/1", "c/1", "b/1")
        assert await line.served(3) == ["a/1", "c/1", "b/1"]


async def test_a_higher_class_goes_first_whoever_was_served_longest_ago():
    async with queue(1) as line:
        await line.ask("held/1", *["one/background"] * 2, *["two/batch"] * 2, "three/1", "three/2")
        assert await line.served(5) == ["three/1", "three/2", "two/batch", "two/batch", "one/background"]


async def test_a_lower_class_gets_an_eighth_of_the_turns_beside_higher_ones_that_never_end():
    async with queue(1) as line:
        await line.ask("held/1", *["low/background"] * 3, *["mid/batch"] * 6, *["high/1"] * 60)
        turns = Counter(await line.served(40))
        assert turns["low/background"] == 3
        assert 4 <= turns["mid/batch"] <= 6
        assert turns["high/1"] >= 30


async def test_a_class_that_does_not_wait_saves_up_no_turns():
    async with queue(1) as line:
        await line.ask("held/1", "low/background", *["high/1"] * 30)
        await line.served(6)
        line.tasks["low/background"][0].cancel()
        await line.settled()
        await line.served(6)
        await line.ask("low/background")
        assert "low/background" not in await line.served(7)
        assert await line.served(1) == ["low/background"]


async def test_a_lane_is_free_again_when_its_holder_fails():
    lanes = FairLanes(1)
    with pytest.raises(ZeroDivisionError):
        async with lanes.lane("acme", "1"):
            raise ZeroDivisionError
    async with asyncio.timeout(5), lanes.lane("acme", "1"):
        pass


async def test_somebody_who_gives_up_waiting_neither_holds_a_lane_nor_blocks_one():
    async with queue(1) as line:
        await line.ask("a/1", "b/1", "c/1")
        line.tasks["b/1"][0].cancel()
        await line.settled()
        assert await line.served(1) == ["c/1"]
        await line.let_go()
        assert line.names() == []
        await line.ask("d/1")
        assert line.names() == ["d/1"]


async def test_somebody_who_gives_up_while_a_lane_is_given_passes_it_on():
    async with queue(1) as line:
        await line.ask("a/1", "b/1", "c/1")
        line.holding[0][1].set()
        while not line.tasks["a/1"][0].done():
            await asyncio.sleep(0)
        line.tasks["b/1"][0].cancel()
        await line.settled()
        assert line.tasks["b/1"][0].cancelled()
        assert line.names() == ["c/1"]


async def test_somebody_who_gives_up_while_a_lane_becomes_free_is_passed_over():
    async with queue(1) as line:
        await line.ask("a/1", "b/1", "c/1")
        line.holding[0][1].set()
        line.tasks["b/1"][0].cancel()
        await line.tasks["a/1"][0]
        await line.settled()
        assert line.names() == ["c/1"]


async def test_a_holder_that_is_cancelled_gives_its_lane_back():
    async with queue(1) as line:
        await line.ask("a/1", "b/1")
        line.tasks["a/1"][0].cancel()
        await line.settled()
        assert line.names() == ["b/1"]


async def test_nothing_is_kept_of_those_who_are_gone():
    async with queue(2) as line:
        await line.ask(*["gone/1"] * 6, "left/1", "left/2")
        assert "gone" in repr(vars(line.lanes))
        line.tasks["left/2"][0].cancel()
        while line.holding:
            await line.let_go()
        kept = repr(vars(line.lanes))
        assert "gone" not in kept
        assert "left" not in kept


def guests(*facts):
    return [Guest(tenant, seconds, priority) for tenant, seconds, priority in facts]


@pytest.mark.parametrize(
    ("guest", "inside", "fits"),
    [
        (("a", 60, 0), [("a", 60, 0)] * 5, True),
        (("a", 60, 0), [("a", 60, 0)] * 6, False),
        (("b", 60, 0), [("a", 60, 0)] * 6, True),
        (("b", 60, 0), [("a", 60, 0)] * 6 + [("b", 60, 0)] * 2, False),
        (("b", 3600, 0), [("a", 3600, 0)] * 4, False),
        (("b", 3600, 0), [("a", 600, 0)] * 4, True),
        (("b", 60, 0), [("a", 3600, 0)] * 4, True),
        (("c", 60, 2), [("a", 60, 1)] * 3 + [("b", 60, 2)] * 3, False),
        (("c", 60, 0), [("a", 60, 1)] * 3 + [("b", 60, 2)] * 3, True),
        (("c", 60, 2), [("a", 60, 0)] * 3 + [("b", 60, 2)] * 3, True),
    ],
)
def test_a_tenant_long_recordings_and_lower_classes_leave_places_to_others(guest, inside, fits):
    assert has_room(8, *guests(guest), guests(*inside)) == fits


def test_of_one_place_everybody_may_have_it():
    for guest in guests(("a", 3600, 2), ("a", 3600, 0), ("a", 60, 2)):
        assert has_room(1, guest, [])
        assert not has_room(1, guest, [guest])


class Decoders:
    """A pool of decoders that work on a recording until the test lets them go on."""

    size = 2
    ready = True

    def __init__(self):
        self.begun = []
        self.going_on = asyncio.Semaphore(0)

    async def run(self, request, *, seconds):
        self.begun.append(Path(request["path"]).name)
        await self.going_on.acquire()
        return {"format": "flac", "channels": 1, "sample_rate": 8000, "seconds": 1.0, "lanes": 1,
                "speech_seconds": 0.0, "utterances": []}  # fmt: skip


@pytest.mark.parametrize("what", ["examined", "prepared"])
async def test_a_quiet_tenants_recording_is_decoded_beside_a_hundred_of_another(tmp_path, what):
    decoders = Decoders()
    preparer = Preparer(decoders, tmp_path / "scratch", PrepareLimits())

    async def decode(tenant, name):
        (tmp_path / name).write_bytes(b"no plain WAV")
        if what == "examined":
            return await preparer.examine(tmp_path / name, tenant)
        async with preparer.prepare(tmp_path / name, tenant) as audio:
            return audio

    loud = [asyncio.create_task(decode("loud", f"loud-{n}")) for n in range(100)]
    while len(decoders.begun) < 2:
        await asyncio.sleep(0)
    quiet = asyncio.create_task(decode("quiet", "quiet"))
    await asyncio.sleep(0)
    decoders.going_on.release()
    while len(decoders.begun) < 3:
        await asyncio.sleep(0)
    assert decoders.begun[2] == "quiet"
    for _ in range(100):
        decoders.going_on.release()
    assert (await quiet).sample_rate == 8000
    await asyncio.gather(*loud)
