"""The disk is full under each path that a service writes, while it runs and before it starts.

A convenience ends nothing; what cannot be kept is said, and what was acknowledged becomes an event, once.
"""

from __future__ import annotations

import struct
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from trunkline_cli.suite import web, webhooks
from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.recordings import RecordingServer
from trunkline_cli.suite.seed import api, seed_tenant

from tests.e2e.conftest import World
from tests.e2e.posting import Told, assert_each_is_one_event, small_call
from tests.forked import launch
from tests.small_disk import SmallDisk, small_disk


@dataclass
class Full(World):
    """A suite of which some paths lie on a small disk."""

    disk: SmallDisk
    told: Told

    def post_some(self, count: int = 10, note: str = "x" * 3000) -> list[int]:
        """Post webhooks; how each was answered."""
        statuses = []
        for _ in range(count):
            answer = self.post(small_call(self, self.tenants[0].source("callrail"), note=note))
            self.told.take(answer)
            statuses.append(answer.status_code)
        return statuses

    def metric(self, name: str, service: str = "gateway") -> float:
        """The sum of the samples whose line begins so."""
        lines = web.get(f"{self.suite.metrics_url(service)}/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def ready(self, service: str = "gateway") -> tuple[int, str]:
        """What operators are told."""
        answer = web.get(f"{self.suite.metrics_url(service)}/readyz")
        return answer.status_code, answer.text

    def public(self) -> tuple[int, str]:
        """What strangers are told."""
        answer = web.get(f"{self.suite.http_url}/readyz")
        return answer.status_code, answer.text

    def answers(self, what: Callable[[], Any]) -> Any:
        """What `what` gives once somebody listens."""

        def tried() -> Any:
            try:
                return what()
            except httpx.TransportError:
                return None

        return self.wait(tried, "an answer", 20)

    def lives(self) -> None:
        """No process has ended."""
        assert [name for name, process in self.suite.running.items() if process.poll() is not None] == []


@contextmanager
def full_world(tmp_path: Path, settings: dict[str, str], *names: str, megabytes: int = 4) -> Iterator[Full]:
    """Start some services with settings that may name the disk as {disk}; stop them cleanly, the disk having room."""
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(tmp_path / "disk", megabytes))
        env = {name: value.format(disk=disk.folder, here=tmp_path) for name, value in settings.items()}
        env |= {"TRUNKLINE_AUDIO_FETCH_ALLOWED_NETWORKS": "127.0.0.0/8", "TRUNKLINE_AUDIO_DECODERS": "1"}
        suite = Suite(tmp_path / "suite", free_ports=True, launch=launch, env=env)
        recordings = stack.enter_context(RecordingServer())
        try:
            suite.start(*names)
            tenant = seed_tenant(suite.http_url, suite.operator_token, "acme", recordings.url)
            for source in tenant.sources:
                recordings.tokens.add(source.credential)
                recordings.accounts[source.account] = source.secret
            yield Full(suite, recordings, [tenant], disk, Told())
            disk.clear()
            for name, code in suite.stop().items():
                assert code == 0, suite.log_end(name)
        finally:
            disk.clear()
            suite.stop()


def test_the_source_cache_ends_no_gateway_and_keeps_none_from_starting(tmp_path: Path) -> None:
    settings = {"TRUNKLINE_GATEWAY_SOURCE_CACHE": "{disk}/sources/cache"}
    with full_world(tmp_path, settings, "tenant", "gateway", megabytes=1) as world:
        suite, gateway = world.suite, world.suite.running["gateway"]
        cache = world.disk.folder / "sources" / "cache"
        world.wait(lambda: cache.exists() and not world.metric("trunkline_source_cache_stale"), "the cache")
        before = cache.read_bytes()
        world.disk.fill()
        second = seed_tenant(suite.http_url, suite.operator_token, "globex", "http://127.0.0.1:9")
        world.wait(
            lambda: world.metric("trunkline_source_cache_stale") == 1, "a cache that cannot be written"
        )
        assert gateway.poll() is None
        assert cache.read_bytes() == before, "the old one is whole"
        assert world.post(small_call(world, second.source("callrail"))).status_code == 202
        assert set(world.post_some()) == {202}

        suite.kill("gateway")
        suite.start("gateway")
        assert set(world.post_some()) == {202}
        world.disk.clear()
        world.wait(lambda: not world.metric("trunkline_source_cache_stale"), "the cache to be written", 20)
        world.wait(lambda: cache.read_bytes() != before, "what is in memory to be on the disk", 20)
        assert_each_is_one_event(world, world.told)


STORE = {
    "TRUNKLINE_GATEWAY_STORE_URL": "sqlite:///{disk}/gateway.db",
    "TRUNKLINE_GATEWAY_SPOOL_PATH": "{here}/elsewhere/spool",
}


def test_webhooks_of_a_full_store_go_to_the_spool_and_to_nowhere_when_that_is_full_too(
    tmp_path: Path,
) -> None:
    settings = STORE | {"TRUNKLINE_GATEWAY_SPOOL_MAX_BYTES": "200000"}
    with full_world(tmp_path, settings, "tenant", "gateway") as world:
        assert set(world.post_some(5)) == {202}
        assert world.metric("trunkline_webhooks_go_to") == 0
        world.disk.fill()
        # The store's log, which lies on the disk already, may have room for some: that is used up first.
        while world.metric("trunkline_spool_rows") <= 20:
            assert set(world.post_some()) == {202}
        world.wait(lambda: world.metric("trunkline_webhooks_go_to") == 1, "the metric that says so")
        code, told = world.ready()
        assert code == 200
        assert "they go to the spool: database or disk is full" in told
        assert world.public() == (200, "ok\n")

        assert 503 in world.post_some(50)
        world.wait(lambda: world.metric("trunkline_webhooks_go_to") == 2, "the metric that says so")
        assert world.metric('trunkline_refused_total{why="spool_full"}') == len(world.told.refused)
        code, told = world.ready()
        assert code == 503
        assert "webhooks: refused (503): the spool holds" in told
        assert world.public() == (503, "not ready\n")

        world.disk.clear()
        world.wait(lambda: world.metric("trunkline_spool_rows") == 0, "an empty spool")
        assert set(world.post_some(5)) == {202}
        world.wait(lambda: world.ready() == (200, "ok\n"), "readiness without a word")
        assert_each_is_one_event(world, world.told, world.disk.folder / "gateway.db")


def test_a_gateway_that_starts_on_a_full_disk_spools(tmp_path: Path) -> None:
    with full_world(tmp_path, STORE, "tenant", "gateway") as world:
        suite = world.suite
        assert set(world.post_some(5)) == {202}
        world.wait(lambda: (suite.folder / "gateway.sources").exists(), "the sources on the disk")
        suite.stop("gateway")
        world.disk.fill()
        suite.spawn("gateway")
        world.answers(world.ready)
        world.wait(lambda: world.ready()[0] == 200, "a spool that takes webhooks")
        assert "store: " in world.ready()[1]
        assert set(world.post_some(10)) == {202}
        assert world.metric("trunkline_webhooks_go_to") == 1
        assert world.metric("trunkline_spool_rows") == 10
        assert web.get(f"{suite.http_url}/v1/tenants/acme/events").status_code == 503

        world.disk.clear()
        suite.wait_ready("gateway")
        world.wait(lambda: world.metric("trunkline_spool_rows") == 0, "an empty spool")
        assert world.metric("trunkline_webhooks_go_to") == 0
        assert_each_is_one_event(world, world.told, world.disk.folder / "gateway.db")


def test_a_full_spool_beside_a_sound_store_refuses_nobody(tmp_path: Path) -> None:
    settings = {"TRUNKLINE_GATEWAY_SPOOL_PATH": "{disk}/spool"}
    with full_world(tmp_path, settings, "tenant", "gateway", megabytes=1) as world:
        world.disk.fill()
        assert set(world.post_some()) == {202}
        world.suite.kill("gateway")
        world.suite.start("gateway")
        assert set(world.post_some()) == {202}
        world.lives()
        assert world.public() == (200, "ok\n")
        assert_each_is_one_event(world, world.told)


BOTH = {
    "TRUNKLINE_GATEWAY_STORE_URL": "sqlite:///{disk}/gateway.db",
    "TRUNKLINE_GATEWAY_SOURCE_CACHE": "{disk}/gateway.sources",
}


def test_store_and_spool_on_one_full_disk_is_503_and_said_until_there_is_room(tmp_path: Path) -> None:
    with full_world(tmp_path, BOTH, "tenant", "gateway") as world:
        suite = world.suite
        assert set(world.post_some(5)) == {202}
        world.disk.fill()
        world.post_some(100)
        assert set(world.post_some(5)) == {503}
        world.wait(lambda: world.metric("trunkline_webhooks_go_to") == 2, "the metric that says so")
        assert world.metric("trunkline_refused_total") == len(world.told.refused)
        code, told = world.ready()
        assert code == 503
        assert "webhooks: refused (503): the spool: No space left on device" in told
        assert world.public() == (503, "not ready\n")
        world.lives()

        suite.kill("gateway")
        suite.spawn("gateway")
        _, told = world.answers(world.ready)
        world.lives()
        if not told.startswith("not ready: store"):
            world.post_some(100)  # it found room in the log that it left: that is used up first
        assert set(world.answers(lambda: world.post_some(3))) == {503}
        assert world.ready()[0] == 503

        world.disk.clear()
        suite.wait_ready("gateway", 30)
        assert set(world.post_some(5)) == {202}
        assert_each_is_one_event(world, world.told, world.disk.folder / "gateway.db")


def test_recordings_wait_for_room(tmp_path: Path) -> None:
    """The disk of the blobs, then that of the scratch files, while the service runs and before it starts."""
    with small_disk(tmp_path / "scratch", 8) as scratch:
        settings = {
            "TRUNKLINE_AUDIO_BLOBS_FOLDER": "{disk}/folder",
            "TRUNKLINE_AUDIO_ENGINE": "tests.standins.instant_audio:create_decoding",
            "TRUNKLINE_AUDIO_SCRATCH_FOLDER": str(scratch.folder / "folder"),
        }
        with full_world(tmp_path, settings, megabytes=8) as world:
            for place, disk in enumerate((world.disk, scratch)):
                disk.fill()
                waiting = []
                for restarted in (False, True):
                    if restarted:
                        world.suite.stop("audio")
                        world.suite.start("audio")
                    waiting.append(
                        _waits(
                            world, _recording(tmp_path / f"{place}-{restarted}.wav", len(waiting) + 2 * place)
                        )
                    )
                    if disk is world.disk:
                        assert "DISK_FULL" in _event(world, waiting[-1])["lastError"]
                        assert world.metric('trunkline_machine_faults_total{fault="disk_full"}', "audio") > 0
                disk.clear()
                for name in waiting:
                    world.wait(lambda: _event(world, name)["state"] == "EVENT_STATE_DONE", "its analysis")  # noqa: B023


def _recording(file: Path, place: int) -> Path:
    """Make a second of near silence that is unlike the others: equal bytes would be kept already."""
    with wave.open(str(file), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(struct.pack("<h", place + 1) * 8000)
    return file


def _waits(world: Full, file: Path) -> str:
    """Post a call whose recording has no room; the name of its event once that waits and says why."""
    source, call = world.tenants[0].source("callrail"), world.call_id()
    for key in (call, f"CAL{call}"):
        world.recordings.files[key] = file
    payload = webhooks.callrail_call(source, call, recorded=True)
    answer = world.post(webhooks.callrail(source, "post_call", payload))
    name: str = world.event_of(world.tenants[0], answer.json()["receiptId"])["name"]
    world.wait(lambda: _event(world, name).get("lastError"), "a reason to wait")
    event = _event(world, name)
    assert event["state"] in ("EVENT_STATE_WAITING", "EVENT_STATE_PROCESSING"), event
    world.lives()
    return name


def _event(world: Full, name: str) -> dict[str, Any]:
    found: dict[str, Any] = world.get(world.tenants[0], name).raise_for_status().json()
    return found


@pytest.mark.timeout(180)
def test_a_service_whose_store_is_full_stays_says_so_and_serves_when_there_is_room(tmp_path: Path) -> None:
    listed = {"tenant": "calls", "audio": "recordings", "ai": "analyses"}
    with ExitStack() as stack:
        disks = {service: stack.enter_context(small_disk(tmp_path / service, 2)) for service in listed}
        settings = {
            f"TRUNKLINE_{service.upper()}_STORE_URL": f"sqlite:///{disk.folder}/{service}.db"
            for service, disk in disks.items()
        }
        settings["TRUNKLINE_AUDIO_ENGINE"] = "tests.standins.instant_audio:create"
        world = stack.enter_context(full_world(tmp_path, settings, "tenant", "audio", "ai", "gateway"))
        suite = world.suite
        for service, disk in disks.items():
            disk.fill()
            world.lives()
            suite.stop(service)
            suite.spawn(service)
            code, told = world.answers(lambda: world.ready(service))  # noqa: B023 - asked right here
            if code != 200:
                assert told.startswith("not ready: ")
                assert "store" in told
            disk.clear()
            suite.wait_ready(service, 30)
            with api(suite.http_url, suite.operator_token) as client:
                # A client that was refused comes back by itself, a moment later.
                path = f"/v1/tenants/acme/{listed[service]}"
                world.wait(lambda: client.get(path).status_code == 200, path)  # noqa: B023 - as above


def test_a_full_disk_under_the_logs_ends_nobody(tmp_path: Path) -> None:
    with full_world(tmp_path, {}, "tenant", "gateway", megabytes=1) as world:
        suite = world.suite
        suite.stop("gateway")
        (suite.folder / "log" / "gateway.log").unlink()
        (suite.folder / "log" / "gateway.log").symlink_to(world.disk.folder / "gateway.log")
        world.disk.fill()
        suite.start("gateway")
        source = world.tenants[0].source("callrail")
        for _ in range(20):
            hook = small_call(world, source)
            assert web.post(hook.url, content=hook.body + b" ", headers=hook.headers).status_code == 401
        assert set(world.post_some()) == {202}
        world.lives()
        assert_each_is_one_event(world, world.told)
